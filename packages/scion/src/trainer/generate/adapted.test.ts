/** Generation by models with adapters that read pictures and the encoder, against passes over whole texts. */
import { expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph } from '../../ir/graph.js';
import { fixtures, testRuntime } from '../../models/testing/reference.js';
import { loadTextModel } from '../../models/text-models.js';
import * as f from '../../nn/functional.js';
import type { Module } from '../../nn/module.js';
import { readParameter } from '../../nn/parameter-values.js';
import { setRoutes } from '../../nn/routes.js';
import { adapter } from '../../peft/adapter/index.js';
import type { BackboneMethod } from '../../peft/backbone-method.js';
import { prefixTuning } from '../../peft/prefix-tuning/index.js';
import { lora } from '../../peft/lora/index.js';
import type { Tensors } from '../../runtime/session.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, int64, numel } from '../../util/tensor.js';
import { compileInference } from '../compile.js';
import { openProgram } from '../program.js';
import { type GenerationSource, type Writer, openGenerator } from './index.js';

const runtime = testRuntime();
const [prefix, most] = [2, 6];

const cases: readonly (readonly [string, BackboneMethod, Record<string, unknown>])[] = [
  ['gpt2/lm-head', lora, { target_modules: 'c_attn', r: 4, routing: 'mul' }],
  ['gpt2/lm-head', adapter, { bottleneck_dim: 4 }],
  ['gpt2/lm-head', prefixTuning, { num_virtual_tokens: 3 }],
  ['bart/conditional', lora, { target_modules: 'q_proj,v_proj', r: 4, routing: 'attend' }],
  ['bart/conditional', lora, {
    target_modules: 'encoder_attn.q_proj,encoder_attn.v_proj', r: 4, routing: 'add', routing_feature: 'encoder',
  }],
];

function drawn(shape: readonly number[], random: Random): Tensor<'float32'> {
  return float32(shape, Array.from({ length: numel(shape) }, () => 0.5 * random.normal()));
}

/** The words that come one by one, each from a pass over the whole text of one prompt. */
async function byWholeTexts(
  model: Writer, values: Tensors, prompt: readonly number[], picture: Tensor<'float32'>,
): Promise<number[]> {
  const words: number[] = [];
  while (words.length < most) {
    const [ids, written] = model.kind === 'decoder'
      ? [[...prompt, ...words], []] : [prompt, [model.decoderStart, ...words]];
    const program = compileInference((graph: Graph) => {
      const visual = f.transpose(graph.input('visual', 'float32', [1, prefix, model.width]), [1, 0, 2]);
      setRoutes(graph, { visual });
      const tokens = f.concat([visual, model.embed(f.constant(graph, int64([1, ids.length], ids)))], 0);
      const last = (() => {
        if (model.kind === 'decoder') return model.decode(tokens).last;
        const encoded = model.encode(tokens);
        setRoutes(graph, { encoder: encoded.last });
        return model.decode(model.embed(f.constant(graph, int64([1, written.length], written))), encoded).last;
      })();
      const row = f.slice(last, 0, last.shape[0]! - 1, last.shape[0]!);
      return { word: f.argMax(model.logits(f.reshape(row, [1, model.width])), 1) };
    });
    const session = await openProgram(runtime, program, values);
    const { word } = await session.run({ visual: { ...picture, shape: [1, ...picture.shape] } });
    await session.release();
    words.push(Number(word!.data[0]));
  }
  return words;
}

test.each(cases.map(([name, method, options]) => ({ name, method, title: method.name, options })))(
  '$name with $title $options writes the same with caches', async ({ name, method, options }) => {
  const model = loadTextModel(await readCheckpoint(fixtures + name)) as Module & Writer;
  await method.attach(model, method.config.parse(options), { read: readParameter });
  const random = Random.seeded(5);
  const values = Object.fromEntries([...model.parameters()].flatMap(([path, { shape, origin }]): [string, Tensor][] =>
    (origin.kind === 'trained' ? [[path, drawn(shape, random.child(path))]] : [])));
  const pictures = [0, 1, 2].map((i) => drawn([prefix, model.width], random.child('picture', i)));
  const prompts = [[5, 7, 8, 20], [30], [44, 12]];
  const wanted = await Promise.all(prompts.map((prompt, i) => byWholeTexts(model, values, prompt, pictures[i]!)));
  expect(new Set(wanted.map(String)).size).toBeGreaterThan(1);

  const source: GenerationSource = {
    model, inputs: { visual: { dtype: 'float32', shape: [prefix, model.width] } },
    condition: ({ visual }) => {
      const seen = f.transpose(visual!, [1, 0, 2]);
      return { prefix: seen, routes: { visual: seen } };
    },
  };
  const inputs = { visual: float32([3, prefix, model.width], pictures.flatMap(({ data }) => [...data])) };
  const shape = { batch: 2, promptLength: 5, values };
  const greedy = { max_new_tokens: most, eos_token_id: null };
  const generator = await openGenerator(runtime, source, greedy, shape);
  expect((await generator.generate({ ids: prompts, inputs })).map(([text]) => text!.ids)).toEqual(wanted);
  await generator.release();
});
