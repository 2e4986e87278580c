/** A small world with questions and captions, and tiny text models that know its words. */
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateWorld } from '../../src/index.js';
import { repository } from '../command.js';

/** Generates it and gives its folder. */
export async function smallWorld(folder: string): Promise<string> {
  await generateWorld(folder, { scenes: 40, seed: 3, questionsPerScene: 2 });
  return folder;
}

/** The tokens of the fixtures' models that are no words, by their ids. */
const marks = {
  'gpt2/lm-head': ['<unk>', '</s>', '<mask>', '<pad>'],
  'bart/conditional': ['<s>', '<pad>', '</s>', '<unk>'],
} as const;
export type TinyModel = keyof typeof marks;

const annotations = async <T>(file: string): Promise<T[]> =>
  (JSON.parse(await readFile(file, 'utf8')) as { annotations: T[] }).annotations;

/** The weights of a fixture with a tokenizer of the most frequent words of the world's answers and captions. */
export async function tinyTextModel(name: TinyModel, folder: string, world: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const file of ['config.json', 'model.safetensors']) await cp(join(repository, 'fixtures', name, file), join(folder, file));
  const { vocab_size: size } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as { vocab_size: number };
  const counts = new Map<string, number>();
  const count = (text: string, times: number): void => {
    for (const word of text.toLowerCase().match(/[a-z]+|[^\sa-z]/g) ?? []) counts.set(word, (counts.get(word) ?? 0) + times);
  };
  const captions = await annotations<{ caption: string }>(join(world, 'annotations/captions_train2014.json'));
  captions.forEach(({ caption }) => count(caption, 1));
  const answers = await annotations<{ multiple_choice_answer: string }>(join(world, 'v2_mscoco_train2014_annotations.json'));
  answers.forEach(({ multiple_choice_answer: answer }) => count(answer, 20));
  const words = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([word]) => word);
  const tokens = [...marks[name], ...words].slice(0, size);
  const special = (token: string): object => ({
    id: tokens.indexOf(token), content: token, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
  });
  const around = name.startsWith('bart') ? {
    type: 'RobertaProcessing', sep: ['</s>', 2], cls: ['<s>', 0], trim_offsets: true, add_prefix_space: false,
  } : null;
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({
    version: '1.0', truncation: null, padding: null, added_tokens: marks[name].map(special),
    normalizer: { type: 'Lowercase' }, pre_tokenizer: { type: 'BertPreTokenizer' }, post_processor: around,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece', unk_token: '<unk>', continuing_subword_prefix: '##', max_input_chars_per_word: 100,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  }));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({
    tokenizer_class: 'PreTrainedTokenizerFast', unk_token: '<unk>', pad_token: '<pad>', eos_token: '</s>', clean_up_tokenization_spaces: true,
  }));
  return folder;
}
