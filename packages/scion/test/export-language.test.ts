/**
 * What `scion export` writes of runs with words runs without Scion: the program of the folder's README says what the run
 * says, with onnxruntime-node, sharp and @huggingface/tokenizers alone.
 */
import { execFile } from 'node:child_process';
import { cp, readFile, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { env, pipeline } from '@huggingface/transformers';
import ort from 'onnxruntime-node';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  type Answered, type Captioned, type ExportedLanguageRun, type LanguageRecipeInput, exportLanguageRun, loadLanguageRun,
  openBackbone, openTextModel, readSafetensors, trainLanguage, writeSafetensors,
} from '../src/index.js';
import { nodeRuntime } from '../src/runtime/node.js';
import { compileInference } from '../src/trainer/compile.js';
import { valuesFor } from '../src/trainer/language/fit.js';
import { padOf } from '../src/trainer/language/model.js';
import { type Visual, textFeeds, textInputs } from '../src/trainer/language/objective.js';
import { openRunModels, readLanguageRun, storedRecipe } from '../src/trainer/language/run.js';
import { openProgram } from '../src/trainer/program.js';
import { type Tensor, int64 } from '../src/util/tensor.js';
import { repository } from './command.js';
import { json, refused, scratch } from './support/cli.js';
import { smallWorld, tinyTextModel } from './support/words.js';

const folder = await scratch();
const question = 'How many objects are there?';
let world: string;
/** By their shorter side: as large as the models see them, so that nothing has to be resized. */
const pictures: Record<number, string[]> = {};
const textModels: Record<string, string> = { roberta: 'picto-roberta' };

beforeAll(async () => {
  world = await smallWorld(join(folder, 'world'));
  const names = (await readdir(join(world, 'test2015'))).sort().slice(0, 3);
  for (const { side, wide } of [{ side: 64, wide: 64 }, { side: 18, wide: 25 }, { side: 14, wide: 14 }]) {
    pictures[side] = await Promise.all(names.map(async (name, i) => {
      const file = join(folder, `${side}-${i}.png`);
      await sharp(join(world, 'test2015', name)).resize(wide, side, { fit: 'fill' }).png().toFile(file);
      return file;
    }));
  }
  textModels['gpt2'] = await tinyTextModel('gpt2/lm-head', join(folder, 'gpt2'), world);
  textModels['bart'] = await tinyTextModel('bart/conditional', join(folder, 'bart'), world);
  // where the programs of the exported folders find their packages
  await symlink(join(repository, 'node_modules'), join(folder, 'node_modules'));
}, 60_000);

const base = { cache: false, training: { epochs: 1 } } as const;
/** Enough for texts that have words in them. */
const writing = { cache: false, training: { epochs: 30, lr: 0.01, batch_size: 16 }, generation: { max_new_tokens: 12 } } as const;

const fixture = (name: string): string => join(repository, 'fixtures', name);

interface Case {
  name: string;
  recipe: Omit<LanguageRecipeInput, 'data' | 'text_model'>;
  text: 'roberta' | 'gpt2' | 'bart';
  /** The shorter side of its pictures; 64 where absent. */
  side?: number;
}
const cases: Case[] = [
  {
    name: 'answers of RoBERTa, LoRA in its weights', text: 'roberta',
    recipe: { ...base, task: 'vqa', config: { target_modules: ['query', 'value'] } },
  },
  {
    name: 'answers of RoBERTa, routed by patches', text: 'roberta',
    recipe: { ...base, task: 'vqa', visual: 'patches', prefix: false, config: { target_modules: ['query', 'value'], routing: 'mul' } },
  },
  {
    name: 'answers of RoBERTa about pictures that are resized and cut', text: 'roberta', side: 18,
    recipe: { ...base, task: 'vqa', model: fixture('dinov2/interpolated'), method: 'bitfit' },
  },
  {
    name: 'answers of RoBERTa about pictures that are squeezed', text: 'roberta', side: 14,
    recipe: { ...base, task: 'vqa', model: fixture('siglip/gemma'), classifier_layers: 1, method: 'prefix-tuning' },
  },
  {
    name: 'answers of RoBERTa that sees nothing', text: 'roberta',
    recipe: { ...base, task: 'vqa', visual: 'none', method: 'adapter' },
  },
  {
    name: 'answers that GPT-2 chooses', text: 'gpt2',
    recipe: { ...base, task: 'vqa', head: 'classify', config: { target_modules: ['c_attn'] } },
  },
  { name: 'answers that GPT-2 writes', text: 'gpt2', recipe: { ...writing, task: 'vqa', method: 'full-finetuning' } },
  {
    name: 'captions of GPT-2', text: 'gpt2',
    recipe: { ...writing, task: 'caption', config: { target_modules: ['c_attn', 'c_fc'] } },
  },
  {
    name: 'captions of BART', text: 'bart',
    recipe: { ...writing, task: 'caption', visual: 'patches', prefix: false, config: { target_modules: ['q_proj', 'v_proj', 'fc1'], routing: 'add' } },
  },
  {
    name: 'answers that BART writes', text: 'bart',
    recipe: { ...writing, task: 'vqa', head: 'generate', method: 'full-finetuning' },
  },
];

const trained = async ({ name, recipe, text }: Case): Promise<string> => {
  const out = join(folder, name);
  await (await trainLanguage({ ...recipe, data: world, text_model: textModels[text]!, out })).close();
  return out;
};

/** The program of the README, on a picture and a question: what it prints. */
async function readmeSays(exported: string, args: readonly string[]): Promise<string[]> {
  const [, program] = /```js\n([\s\S]*?)```/.exec(await readFile(join(exported, 'README.md'), 'utf8'))!;
  expect(program).not.toMatch(/scion/i);
  await writeFile(join(exported, 'run.mjs'), program!);
  const { stdout } = await promisify(execFile)(process.execPath, ['run.mjs', ...args], { cwd: exported });
  return stdout.trimEnd().split('\n');
}

const tensor = ({ dtype, data, shape }: Tensor): ort.Tensor => new ort.Tensor(dtype as 'float32', data as Float32Array, shape);

async function runFile(file: string, feeds: Record<string, Tensor>): Promise<Record<string, ort.Tensor>> {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  try {
    return await session.run(Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, tensor(value)])));
  } finally {
    await session.release();
  }
}

const float = (count: number, of: (i: number) => number): Float32Array => Float32Array.from({ length: count }, (_, i) => of(i));

/** Logits of the exported model and of Scion's own program, for three texts of unequal length. */
async function bothLogits(run: string, exported: string, file = 'model.onnx'): Promise<{ found: Float32Array; expected: Float32Array }> {
  const { info, values } = await readLanguageRun(run);
  const recipe = storedRecipe(run, info, {});
  const { model } = await openRunModels(run, info, values, recipe, { openBackbone, openTextModel });
  const texts = [[4, 5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17]].map((ids, picture) => ({ ids, picture }));
  const shape = { rows: 3, length: 7 };
  const written = [4, 5, 6, 7].flatMap((id) => [id, id + 1, id + 2]);
  const { sight } = model;
  const visual: Visual | undefined = sight && {
    tokens: sight.tokens, dim: sight.dim, data: float(3 * sight.tokens * sight.dim, (i) => Math.sin(i)),
  };
  const feeds: Record<string, Tensor> = { ...textFeeds(shape, texts, visual, padOf(model.text)), written: int64([3, 4], written) };
  const { visual: looked, ids, mask } = feeds;
  const { logits } = await runFile(join(exported, file), {
    ...(looked && { visual: looked }),
    input_ids: ids!, attention_mask: int64([3, 7], Array.from(mask!.data as Float32Array)),
    ...(model.text.kind === 'encoder-decoder' && { decoder_input_ids: feeds['written']! }),
  });
  const found = logits!.data as Float32Array;
  const program = compileInference((graph) => ({
    logits: info.answers ? model.classify(textInputs(graph, model, shape)) : model.nextWords({
      ...textInputs(graph, model, shape),
      ...(model.text.kind === 'encoder-decoder' && { written: graph.input('written', 'int64', [3, 4]) }),
    }),
  }));
  const runtime = nodeRuntime();
  try {
    const session = await openProgram(runtime, program, valuesFor(program, model, values));
    const own = (await session.run(feeds))['logits']!.data as Float32Array;
    if (info.answers) return { found, expected: own };
    const [, count, words] = logits!.dims as [number, number, number];
    // rows are token · batch + example there
    return { found, expected: float(own.length, (i) => {
      const [example, token] = [Math.floor(i / (count * words)), Math.floor(i / words) % count];
      return own[(token * 3 + example) * words + (i % words)]!;
    }) };
  } finally {
    await runtime.close();
  }
}

const farthest = (a: Float32Array, b: Float32Array): number => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

describe.each(cases)('$name', (given) => {
  test('leave as files that run without Scion', async () => {
    const run = await trained(given);
    const exported = join(folder, `${given.name}, exported`);
    await exportLanguageRun(run, exported, { to: 'onnx' });
    const { found, expected } = await bothLogits(run, exported);
    expect(found).toHaveLength(expected.length);
    expect(farthest(found, expected)).toBeLessThan(1e-4);
    expect(expected.some((x) => Math.abs(x) > 1e-2)).toBe(true);
    const loaded = await loadLanguageRun(run);
    try {
      const sees = given.recipe.visual !== 'none';
      for (const picture of pictures[given.side ?? 64]!.slice(0, given.text === 'roberta' ? 1 : 2)) {
        const said = await readmeSays(exported, [...(sees ? [picture] : []), question]);
        if (given.recipe.task === 'caption') {
          const [{ caption }] = await loaded.caption([picture]) as [Captioned];
          expect(caption).not.toBe('');
          expect(said).toEqual([caption]);
          continue;
        }
        const [{ answer, choices }] = await loaded.answer([picture], question) as [Answered];
        if (!choices) {
          expect(answer).not.toBe('');
          expect(said).toEqual([answer]);
          continue;
        }
        const scores = said.map((line) => Number(line.split(' ').at(-1)));
        expect(scores).toHaveLength(choices.length);
        choices.forEach(({ score }, i) => expect(scores[i]).toBeCloseTo(score, 4));
        expect(said[0]!.startsWith(`${answer} `)).toBe(true);
      }
    } finally {
      await loaded.close();
    }
  }, 120_000);
});

describe.each(cases.filter(({ name }) => name.startsWith('captions')))('$name in transformers.js', (given) => {
  test('are those of the run', async () => {
    const run = join(folder, given.name);
    const name = given.text;
    await exportLanguageRun(run, join(folder, 'web', name), { to: 'transformers.js' });
    env.allowRemoteModels = false;
    env.localModelPath = join(folder, 'web/');
    const describePicture = await pipeline('image-to-text', name);
    const loaded = await loadLanguageRun(run);
    try {
      const expected = await loaded.caption(pictures[64]!);
      for (const [i, picture] of pictures[64]!.entries()) {
        const [found] = await describePicture(picture) as { generated_text: string }[];
        expect(found!.generated_text).toBe(expected[i]!.caption);
      }
    } finally {
      await loaded.close();
      await describePicture.dispose();
    }
  }, 60_000);
});

describe('the weights', () => {
  const [answering] = cases;
  const run = join(folder, answering!.name);
  const sizeOf = async (file: string): Promise<number> => (await stat(join(folder, file))).size;

  test('have the adapter in them, unless it is to stay beside them', async () => {
    await exportLanguageRun(run, join(folder, 'beside'), { to: 'onnx', merge: false });
    const { found, expected } = await bothLogits(run, join(folder, 'beside'));
    expect(farthest(found, expected)).toBeLessThan(1e-4);
    // two matrices of rank 8 for two projections in each of the four layers
    expect(await sizeOf('beside/model.onnx') - await sizeOf(`${answering!.name}, exported/model.onnx`)).toBeGreaterThan(4 * 2 * 2 * 8 * 256 * 4 - 1000);
  });

  test('are smaller in other formats', async () => {
    const { files } = await exportLanguageRun(run, join(folder, 'small'), { to: 'onnx', dtypes: ['fp16', 'int8'] });
    expect(files).toEqual(expect.arrayContaining(
      ['vision_model_fp16.onnx', 'vision_model_int8.onnx', 'model_fp16.onnx', 'model_int8.onnx']));
    const whole = await sizeOf(`${answering!.name}, exported/model.onnx`);
    expect(await sizeOf('small/model_fp16.onnx')).toBeLessThan(0.55 * whole);
    expect(await sizeOf('small/model_int8.onnx')).toBeLessThan(0.35 * whole);
    const { found, expected } = await bothLogits(run, join(folder, 'small'), 'model_fp16.onnx');
    expect(farthest(found, expected)).toBeLessThan(0.05);
  });

  test('are found by transformers.js beside the models and in eight bits', async () => {
    const { files } = await exportLanguageRun(join(folder, 'captions of GPT-2'), join(folder, 'web/q8'), {
      to: 'transformers.js', dtypes: ['q8'], inlineLimit: 2000,
    });
    expect(files).toEqual(expect.arrayContaining(['onnx/encoder_model_quantized.onnx_data', 'onnx/decoder_model_merged_quantized.onnx_data']));
    const describePicture = await pipeline('image-to-text', 'q8');
    const [found] = await describePicture(pictures[64]![0]!) as { generated_text: string }[];
    expect(found!.generated_text).not.toBe('');
    await describePicture.dispose();
  });
});

describe('scion export', () => {
  const answering = join(folder, cases[0]!.name);
  const captions = join(folder, 'captions of GPT-2');

  test('writes them and says what is in the folder', async () => {
    const { task, files } = await json<ExportedLanguageRun>(['export', answering, '--to', 'onnx', join(folder, 'by command')]);
    expect(task).toBe('vqa');
    expect(files).toEqual(['vision_model.onnx', 'model.onnx', 'README.md', 'preprocessor_config.json', 'config.json',
      'tokenizer.json', 'tokenizer_config.json']);
    expect((await readdir(join(folder, 'by command'))).sort()).toEqual([...files].sort());
    const config = JSON.parse(await readFile(join(folder, 'by command/config.json'), 'utf8')) as { id2label: object };
    const { info } = await readLanguageRun(answering);
    expect(Object.values(config.id2label)).toEqual(info.answers);
  });

  test.each([
    [answering, ['--to', 'transformers.js'], 2, /--to: transformers\.js: it has no pipeline that answers questions/],
    [answering, ['--to', 'peft'], 2, /--to: peft: .* is a run of the task vqa/],
    [captions, ['--to', 'onnx', '--task', 'image-classification'], 2, /--task: image-classification: .* has its own task; leave it out/],
    [captions, ['--to', 'tflite'], 2, /--to: unknown target "tflite"/],
    [captions, ['--to', 'onnx', '--model', fixture('siglip/gemma')], 1, /is not the model that .* was trained with/],
  ] as const)('refuses %s %j', async (run, flags, code, message) => {
    await refused(folder, code, ['export', run, join(folder, 'none'), ...flags], [message]);
  });

  test('refuses a run whose trained values are not all there', async () => {
    const damaged = join(folder, 'damaged');
    await cp(answering, damaged, { recursive: true });
    const values = Object.fromEntries((await readSafetensors(join(damaged, 'adapter.safetensors'))).tensors);
    delete values['classifier.dense.weight'];
    await writeSafetensors(join(damaged, 'adapter.safetensors'), values);
    await expect(exportLanguageRun(damaged, join(folder, 'none'), { to: 'onnx' })).rejects.toThrow(/classifier\.dense\.weight is missing/);
  });
});
