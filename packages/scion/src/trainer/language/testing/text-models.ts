/** Tiny text models that read the words of PictoWorld: checkpoints of the fixtures with a tokenizer beside them. */
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fixtures } from '../../../models/testing/reference.js';

/** The marks of a fixture, by their ids; words fill the other ids. */
const marks = {
  'gpt2/lm-head': { ids: ['<unk>', '<|endoftext|>', '<unused>', '<pad>'], begin: undefined, end: undefined },
  'bart/conditional': { ids: ['<s>', '<pad>', '</s>', '<unk>'], begin: '<s>', end: '</s>' },
  'roberta/masked-lm': { ids: ['<s>', '<pad>', '</s>', '<unk>'], begin: '<s>', end: '</s>' },
} as const;
export type TinyTextModel = keyof typeof marks;

const words = [
  ...'a an the is are of in on to and what which how many where there any picture left right above below next color kind'.split(' '),
  ...'question answer yes no 0 1 2 3 4 red blue green yellow orange purple pink brown black white gray big small'.split(' '),
  ...'cat dog bird fish car bus boat house tree flower apple banana cup clock umbrella guitar heart star : ? . ,'.split(' '),
];

/** Writes such a checkpoint into `folder` and gives its path. Words that it does not know are `<unk>`. */
export async function tinyTextModel(name: TinyTextModel, folder: string): Promise<string> {
  const { ids, begin, end } = marks[name];
  const out = join(folder, name.replace('/', '-'));
  await mkdir(out, { recursive: true });
  for (const file of ['config.json', 'model.safetensors']) await cp(join(fixtures, name, file), join(out, file));
  const { vocab_size: count } = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as { vocab_size: number };
  const all = [...ids, ...words].slice(0, count);
  const special = (content: string): object =>
    ({ id: all.indexOf(content), content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  const mark = (id: string): object => ({ SpecialToken: { id, type_id: 0 } });
  const text = { Sequence: { id: 'A', type_id: 0 } };
  const own = (id: string): object => ({ id, ids: [all.indexOf(id)], tokens: [id] });
  const post = begin === undefined ? null : {
    type: 'TemplateProcessing', single: [mark(begin), text, mark(end)], pair: [mark(begin), text, mark(end)],
    special_tokens: { [begin]: own(begin), [end]: own(end) },
  };
  await writeFile(join(out, 'tokenizer.json'), JSON.stringify({
    version: '1.0', truncation: null, padding: null, added_tokens: ids.filter((id) => id !== '<unused>').map(special),
    normalizer: { type: 'Lowercase' }, pre_tokenizer: { type: 'Whitespace' }, post_processor: post,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece', vocab: Object.fromEntries(all.map((word, id) => [word, id])), unk_token: '<unk>',
      continuing_subword_prefix: '##', max_input_chars_per_word: 100,
    },
  }));
  await writeFile(join(out, 'tokenizer_config.json'), '{}');
  return out;
}
