import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { adam } from '../../optim/adam.js';
import { attachLora, loraConfig } from '../../peft/lora/index.js';
import { readParameter } from '../../nn/parameter-values.js';
import { readPeftAdapter } from '../../peft/python/folder.js';
import { fitAdapter } from '../../peft/python/keys.js';
import { compileTraining, initialState, stepScalars } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, int64, scalar } from '../../util/tensor.js';
import { batchFirst, expectClose, expected, fixtures, run, testRuntime } from '../testing/reference.js';
import { loadTextModel } from '../text-models.js';
import { type Gpt2, loadGpt2, newGpt2 } from './index.js';

const runtime = testRuntime();
const loaded = async (name: string): Promise<Gpt2> => loadGpt2(await readCheckpoint(`${fixtures}gpt2/${name}`));

/** Cross entropy of each word from those before it; ids [B, T]. */
function loss(model: Gpt2, last: Value, ids: Value): Value {
  const [batch, count] = ids.shape as [number, number];
  const rows = f.reshape(f.slice(last, 0, 0, count - 1), [-1, model.width]);
  const labels = f.transpose(f.slice(ids, 1, 1, count), [1, 0]);
  return f.crossEntropy(model.logits(rows), f.reshape(labels, [(count - 1) * batch]));
}

/** States [T, B, width] with zeros at padding, whose states mean nothing. */
const shown = (states: Value, { shape, data }: Tensor): Value => {
  const mask = f.constant(states.graph, float32(shape, data as Float32Array));
  return f.mul(states, f.reshape(f.transpose(mask, [1, 0]), [shape[1]!, shape[0]!, 1]));
};

describe('GPT2LMHeadModel', () => {
  test('gives the hidden states, logits and loss of transformers', async () => {
    const [model, want] = [await loaded('lm-head'), await expected('gpt2/lm-head')];
    const ids = { dtype: 'int64', shape: [1, 7], data: want('ids').data.slice(0, 7) } as Tensor;
    const got = await run(runtime, (graph) => {
      const tokens = graph.input('ids', 'int64', ids.shape);
      const { states, last } = model.decode(model.embed(tokens));
      return {
        ...batchFirst([...states.slice(0, -1), last], 'state'), // transformers normalises the last one
        logits: f.reshape(model.logits(f.reshape(last, [-1, model.width])), [1, 7, -1]),
        loss: loss(model, last, tokens),
      };
    }, { ids });
    expect(Object.keys(got)).toHaveLength(5);
    for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
  });

  test('padding on the left is hidden, and positions are those that are given', async () => {
    const [model, want] = [await loaded('lm-head'), await expected('gpt2/lm-head')];
    const [ids, mask, positions] = [want('ids'), want('mask'), want('positions')];
    const got = await run(runtime, (graph) => {
      const { states, last } = model.decode(model.embed(graph.input('ids', 'int64', ids.shape)), {
        mask: graph.input('mask', 'float32', mask.shape),
        positions: f.transpose(graph.input('positions', 'int64', positions.shape), [1, 0]),
      });
      return batchFirst([...states.slice(0, -1), last].map((x) => shown(x, mask)), 'padded_state');
    }, { ids, mask, positions });
    for (const [key, tensor] of Object.entries(got)) {
      const wanted = want(key) as Tensor<'float32'>;
      const data = wanted.data.map((v, i) => v * Number(mask.data[Math.floor(i / model.width)]));
      expectClose(tensor, { ...wanted, data }, key);
    }
  });

  test('has the parameters of the checkpoint by their names', async () => {
    const { tensors } = await readSafetensors(`${fixtures}gpt2/lm-head/model.safetensors`);
    const names = [...(await loaded('lm-head')).parameters()].map(([n]) => n).sort();
    expect(names).toEqual([...tensors.keys()].filter((n) => n !== 'lm_head.weight').sort());
  });
});

test('GPT2Model without a prefix, with old buffers, in float16', async () => {
  const want = await expected('gpt2/base');
  const model = loadTextModel(await readCheckpoint(`${fixtures}gpt2/base`)) as Gpt2;
  const ids = want('ids');
  const got = await run(runtime, (graph) => {
    const { states, last } = model.decode(model.embed(graph.input('ids', 'int64', ids.shape)));
    return batchFirst([...states.slice(0, -1), last], 'state');
  }, { ids });
  for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
});

async function train(model: Gpt2, steps: number): Promise<{ losses: number[]; names: string[] }> {
  const program = compileTraining({
    build: (graph: Graph) => {
      const ids = graph.input('ids', 'int64', [2, 6]);
      return { loss: loss(model, model.decode(model.embed(ids)).last, ids) };
    },
    optimizer: adam(), groups: [{ name: 'all', match: () => true, lr: 0.01 }],
  });
  const session = await openProgram(runtime, program, initialState(program, Random.seeded(3)));
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const scalars = Object.fromEntries(Object.entries(stepScalars(program, step, 1)).map(([n, v]) => [n, scalar(v)]));
    const ids = int64([2, 6], [3, 9, 4, 7, 7, 2, 5, 1, 8, 8, 6, 3]);
    const { loss: value } = await session.run({ ids, ...scalars }, { carry: program.carry, fetch: ['loss'] });
    losses.push(Number(value!.data[0]));
  }
  await session.release();
  return { losses, names: [...program.state].filter(([, { parameter }]) => parameter).map(([name]) => name) };
}

test('a new model is drawn as transformers draws it, and learns', async () => {
  const config = { model_type: 'gpt2', vocab_size: 12, n_positions: 8, n_embd: 16, n_layer: 2, n_head: 2 };
  const model = newGpt2(config);
  const { losses, names } = await train(model, 60);
  expect(Math.abs(losses[0]! - Math.log(12))).toBeLessThan(0.1);
  expect(losses.at(-1)).toBeLessThan(0.2);
  expect(names.sort()).toEqual([...model.parameters()].map(([name]) => name).sort());
});

test('LoRA on c_attn trains its own parameters alone', async () => {
  const model = await loaded('lm-head');
  await attachLora(model, loraConfig.parse({ target_modules: ['c_attn'], r: 2 }), { read: readParameter });
  const { losses, names } = await train(model, 20);
  expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.1);
  expect(names.sort()).toEqual([0, 1].flatMap((i) =>
    ['A', 'B'].map((part) => `transformer.h.${i}.attn.c_attn.lora_${part}.weight`)));
});

test('an adapter of Python\'s PEFT, on layers that transformers stores as Conv1D', async () => {
  const folder = `${fixtures}gpt2/lora`;
  const [model, want] = [await loaded('lm-head'), await expected('gpt2/lora')];
  const { config, tensors } = await readPeftAdapter(folder);
  await attachLora(model, config, { read: readParameter });
  model.freeze(Object.fromEntries(fitAdapter(model, tensors, folder)));
  const ids = want('ids');
  const got = await run(runtime, (graph) => {
    const { last } = model.decode(model.embed(graph.input('ids', 'int64', ids.shape)));
    return { logits: f.reshape(model.logits(f.reshape(last, [-1, model.width])), [1, 7, -1]) };
  }, { ids });
  expectClose(got['logits'], want('logits'), 'logits');
});

describe('is refused', () => {
  const config = { model_type: 'gpt2' };
  test.each([
    [{ scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx: is true, expected false, since .*take/],
    [{ reorder_and_upcast_attn: true }, /reorder_and_upcast_attn/], [{ add_cross_attention: true }, /add_cross_attention/],
    [{ scale_attn_weights: false }, /scale_attn_weights: is false, expected true/],
    [{ n_embd: 30, n_head: 4 }, /n_head: 4 does not divide n_embd 30/], [{ n_layer: -1 }, /n_layer: is -1/],
    [{ model_type: 'gptj' }, /"gptj" is not supported/], [{ activation_function: 'swish' }, /activation_function: is "swish"/],
  ])('a configuration with %j', (change, message) => {
    expect(() => newGpt2({ ...config, ...change })).toThrow(message);
  });

  test('a text that is longer than the positions, and a checkpoint without a tensor', async () => {
    const model = await loaded('lm-head');
    const long = (graph: Graph): Record<string, Value> =>
      ({ x: model.decode(model.embed(graph.input('ids', 'int64', [1, 41]))).last });
    await expect(run(runtime, long, {})).rejects.toThrow(/41 tokens .* 40 positions; cut/);
    const checkpoint = await readCheckpoint(`${fixtures}gpt2/lm-head`);
    const tensors = new Map(checkpoint.tensors);
    tensors.delete('transformer.h.1.attn.c_attn.weight');
    expect(() => loadGpt2({ ...checkpoint, tensors }))
      .toThrow(/h\.1\.attn\.c_attn\.weight: is missing, expected shape \[96, 32\]/);
  });
});
