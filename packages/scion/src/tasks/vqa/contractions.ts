/**
 * Contractions as they are written without their apostrophe and as they should be: data of the evaluation of VQA
 * (github.com/GT-Vision-Lab/VQA, vqaEvaluation/vqaEval.py), with its oddities, such as `somebody'd`, which loses its
 * apostrophe. Words are compared in lower case, so its entries with a capital (`Im`, `Ive`) never apply; they are left out.
 */

/** What is written beside it is the same but for apostrophes. */
const listed = `
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't she's should've shouldn't
somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd
they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've`.trim().split(/\s+/);

/** Those of which the evaluation knows several spellings, or none that follows from them. */
const spellings: Readonly<Record<string, readonly string[]>> = {
  "couldn't've": ["couldn'tve", "couldnt've"], "hadn't've": ["hadnt've", "hadn'tve"], "he'd've": ["hed've", "he'dve"],
  "it'd've": ["itd've", "it'dve"], "mightn't've": ["mightnt've", "mightn'tve"], "'ow's'at": ["ow's'at", "'ows'at", "'ow'sat"],
  "she'd've": ["shed've", "she'dve"], "shouldn't've": ["shouldnt've", "shouldn'tve"], somebodyd: ["somebody'd"],
  "somebody'd've": ["somebodyd've", "somebody'dve"], "someone'd've": ["someoned've", "someone'dve"],
  "something'd've": ["somethingd've", "something'dve"], "there'd've": ["thered've", "there'dve"],
  "they'd've": ["theyd've", "they'dve"], "we'd've": ["wed've", "we'dve"], "who'd've": ["whod've", "who'dve"],
  "wouldn't've": ["wouldnt've", "wouldn'tve"], "y'all'll": ["yall'll", "y'allll"],
  "y'all'd've": ["yall'd've", "y'alld've", "y'all'dve"], "you'd've": ["youd've", "you'dve"],
};

/** Of these the evaluation lists the spelling with the apostrophe alone. */
const alreadyRight = new Set(["let's", "she's"]);

/** From a word as it may be written to the word as it should be. */
export const contractions: ReadonlyMap<string, string> = new Map([
  ...listed.filter((word) => !alreadyRight.has(word)).map((word) => [word.replaceAll("'", ''), word] as const),
  ...Object.entries(spellings).flatMap(([word, written]) => written.map((w) => [w, word] as const)),
]);
