/** The README of an exported run with words: the files, and a whole program that runs them. */
import type { ImageProcessor } from '../data/image-processor.js';
import type { LanguageTask } from '../trainer/language/recipe.js';

export interface Described {
  task: LanguageTask;
  /** Absent where texts are written. */
  answers: readonly string[] | undefined;
  /** Whether texts are written by a decoder alone. */
  decodes: boolean;
  /** Absent where nothing is seen. */
  processor: ImageProcessor | undefined;
  /** What is read before the first word of a caption. */
  prompt: readonly number[];
  beams: number;
}

const lines = (...all: readonly (string | false | undefined)[]): string => all.filter((line) => typeof line === 'string').join('\n');

/** sharp's names of the filters. */
const kernels: Record<ImageProcessor['settings']['resample'], string> = {
  nearest: 'nearest', bilinear: 'linear', bicubic: 'cubic', lanczos: 'lanczos3',
};

/** Of a picture in sharp: resized, cut to the model's size, as `rgb` [height, width, 3]. */
function sized({ settings: { resize, resample }, height, width }: ImageProcessor): string {
  const kernel = `kernel: '${kernels[resample]}'`;
  const whole = resize === null || 'height' in resize ? resize ?? { height, width } : { height: resize.shortestEdge, width: resize.shortestEdge };
  const fit = resize === null || 'height' in resize ? 'fill' : whole.height === height && whole.width === width ? 'cover' : 'outside';
  const opened = "sharp(picture).rotate().flatten({ background: 'white' }).toColourspace('srgb')";
  if (whole.height === height && whole.width === width) {
    return lines(`const rgb = await ${opened}`, `  .resize(width, height, { fit: '${fit}', ${kernel} }).raw().toBuffer();`);
  }
  return lines(
    `const { data, info } = await ${opened}`,
    `  .resize(${whole.width}, ${whole.height}, { fit: '${fit}', ${kernel} }).raw().toBuffer({ resolveWithObject: true });`,
    'const [left, top] = [(info.width - width) >> 1, (info.height - height) >> 1];',
    'const rgb = await sharp(data, { raw: info }).extract({ left, top, width, height }).raw().toBuffer();',
  );
}

/** The picture as pixels, and what the encoder sees. */
const looking = (processor: ImageProcessor): string => lines(
  "const { crop_size: { width, height }, rescale_factor: factor, image_mean: mean, image_std: std } = read('preprocessor_config.json');",
  sized(processor),
  'const size = width * height;',
  'const pixels = Float32Array.from({ length: 3 * size }, (_, i) => {',
  '  const channel = Math.floor(i / size);',
  '  return (rgb[3 * (i % size) + channel] * factor - mean[channel]) / std[channel];',
  '});',
  "const encoder = await load('vision_model.onnx');",
  "const seen = await encoder.run({ pixel_values: new ort.Tensor('float32', pixels, [1, 3, height, width]) });",
);

const choosing = lines(
  'const { ids } = tokenizer.encode(question);',
  "const { logits } = await model.run({ ...seen, input_ids: row(ids), attention_mask: row(ids.map(() => 1)) });",
  "const { id2label } = read('config.json');",
  'const best = [...logits.data.keys()].sort((a, b) => logits.data[b] - logits.data[a]).slice(0, 5);',
  'for (const i of best) console.log(id2label[i], 1 / (1 + Math.exp(-logits.data[i])));',
);

function writing({ task, decodes, prompt }: Described): string {
  const asked = task === 'vqa';
  const start = decodes && asked
    ? 'const words = [first, ...tokenizer.encode(`question: ${question.trim()} answer:`, { add_special_tokens: false }).ids];'
    : 'const words = [first];';
  const feeds = decodes ? 'input_ids: row(words), attention_mask: row(words.map(() => 1))'
    : 'input_ids: row(ids), attention_mask: row(ids.map(() => 1)), decoder_input_ids: row(words)';
  return lines(
    "const { decoder_start_token_id: first, eos_token_id: ends, max_new_tokens: most } = read('generation_config.json');",
    !decodes && (asked ? 'const { ids } = tokenizer.encode(question);' : `const ids = ${JSON.stringify(prompt)}; // an empty text`),
    start,
    'const from = words.length;',
    'while (words.length < from + most) {',
    `  const { logits } = await model.run({ ...seen, ${feeds} });`,
    '  const last = logits.data.subarray(-logits.dims[2]); // of the word after the last one',
    '  const next = last.reduce((best, score, i) => (score > last[best] ? i : best), 0);',
    '  if ([ends].flat().includes(next)) break;',
    '  words.push(next);',
    '}',
    "console.log(words.length > from ? tokenizer.decode(words.slice(from), { skip_special_tokens: true }).trim() : '');",
  );
}

/** The text of the README. Its program stands in the folder and is called with a picture and, for vqa, a question. */
export function readme(described: Described): string {
  const { task, answers, decodes, processor, beams } = described;
  const asked = task === 'vqa';
  const args = [...(processor ? ['picture'] : []), ...(asked ? ['question'] : [])];
  const inputs = [processor && '`visual`', '`input_ids`', '`attention_mask`', !answers && !decodes && '`decoder_input_ids`'].filter(Boolean);
  const program = lines(
    "import { readFileSync } from 'node:fs';",
    "import { Tokenizer } from '@huggingface/tokenizers';",
    "import ort from 'onnxruntime-node';",
    processor && "import sharp from 'sharp';",
    '',
    args.length > 0 && `const [${args.join(', ')}] = process.argv.slice(2);`,
    "const read = (file) => JSON.parse(readFileSync(`${import.meta.dirname}/${file}`, 'utf8'));",
    'const load = (file) => ort.InferenceSession.create(`${import.meta.dirname}/${file}`);',
    "const row = (ids) => new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);",
    '',
    processor ? looking(processor) : 'const seen = {};',
    '',
    "const tokenizer = new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));",
    "const model = await load('model.onnx');",
    answers ? choosing : writing(described),
  );
  return lines(
    `# A model that ${asked ? 'answers questions about pictures' : 'describes pictures'}`,
    '',
    '| file | what it is |',
    '| --- | --- |',
    processor && `| \`vision_model.onnx\` | \`pixel_values\` [batch, 3, ${processor.height}, ${processor.width}] → \`visual\` [batch, tokens, features] |`,
    `| \`model.onnx\` | ${inputs.join(', ')} → \`logits\` ${answers
      ? '[batch, answers]; the sigmoid of each is how right the answer is'
      : '[batch, tokens, vocabulary] of the word after each'} |`,
    answers ? '| `config.json` | the answers: `id2label` |'
      : '| `generation_config.json` | what a text begins and ends with, and how many words it has |',
    processor && '| `preprocessor_config.json` | how pictures become `pixel_values` |',
    '| `tokenizer.json` | how words become ids |',
    '',
    'All axes of length "batch" and of tokens are open. Padding comes last and has 0 in `attention_mask`.',
    !answers && beams > 1 && `The model was made to write with ${beams} beams; the program below takes the likeliest word each time.`,
    '',
    `As \`run.mjs\` in this folder, with \`npm install onnxruntime-node @huggingface/tokenizers${processor ? ' sharp' : ''}\`: `
      + `\`node run.mjs${processor ? ' picture.png' : ''}${asked ? ' "What is on the left?"' : ''}\``,
    '',
    '```js',
    program,
    '```',
    '',
  );
}
