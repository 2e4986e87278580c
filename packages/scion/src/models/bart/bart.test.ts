import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { readParameter } from '../../nn/parameter-values.js';
import { blocksOf } from '../../nn/places.js';
import { routesOf } from '../../nn/routes.js';
import { adam } from '../../optim/adam.js';
import { attachLora, loraConfig } from '../../peft/lora/index.js';
import { compileTraining, initialState, stepScalars } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { Random } from '../../util/random.js';
import { int64, scalar } from '../../util/tensor.js';
import { batchFirst, expectClose, expected, fixtures, run, testRuntime } from '../testing/reference.js';
import { loadTextModel } from '../text-models.js';
import { type Bart, loadBart, newBart } from './index.js';

const runtime = testRuntime();
const loaded = async (name: string): Promise<Bart> =>
  loadTextModel(await readCheckpoint(`${fixtures}bart/${name}`)) as Bart;

/** Cross entropy of labels int64 [B, T] at every token of the states [T, B, width]. */
function loss(model: Bart, last: Value, labels: Value): Value {
  return f.crossEntropy(model.logits(f.reshape(last, [-1, model.width])), f.reshape(f.transpose(labels, [1, 0]), [-1]));
}

test('BartForConditionalGeneration gives the hidden states, logits and loss of transformers', async () => {
  const [model, want] = [await loaded('conditional'), await expected('bart/conditional')];
  const [sources, source_mask, ids, labels] = ['sources', 'source_mask', 'ids', 'labels'].map(want);
  const got = await run(runtime, (graph) => {
    const mask = graph.input('source_mask', 'float32', source_mask!.shape);
    const encoded = model.encode(model.embed(graph.input('sources', 'int64', sources!.shape)), mask);
    const { states, last } = model.decode(
      model.embed(graph.input('ids', 'int64', ids!.shape)), { last: encoded.last, mask });
    expect(routesOf(graph).encoder).toBe(encoded.last);
    const [count, batch] = last.shape as [number, number];
    const logits = f.reshape(model.logits(f.reshape(last, [-1, model.width])), [count, batch, model.vocabulary]);
    return {
      ...batchFirst(encoded.states, 'encoder_state'), ...batchFirst(states, 'decoder_state'),
      logits: f.transpose(logits, [1, 0, 2]), loss: loss(model, last, graph.input('labels', 'int64', labels!.shape)),
    };
  }, { sources: sources!, source_mask: source_mask!, ids: ids!, labels: labels! });
  expect(Object.keys(got)).toHaveLength(7);
  for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
});

test('BartModel without a prefix or head, with scaled embeddings and all copies of them, in float16', async () => {
  const [model, want] = [await loaded('base'), await expected('bart/base')];
  const [sources, ids] = [want('sources'), want('ids')];
  const got = await run(runtime, (graph) => {
    const encoded = model.encode(model.embed(graph.input('sources', 'int64', sources.shape)));
    const { states } = model.decode(model.embed(graph.input('ids', 'int64', ids.shape)), encoded);
    return { ...batchFirst(encoded.states, 'encoder_state'), ...batchFirst(states, 'decoder_state') };
  }, { sources, ids });
  for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
});

test('has the parameters of the checkpoint by their names, and finds the words under any of theirs', async () => {
  const { tensors } = await readSafetensors(`${fixtures}bart/conditional/model.safetensors`);
  const copies = /(embed_tokens|lm_head)\.weight$/;
  const names = [...(await loaded('conditional')).parameters()].map(([n]) => n).sort();
  expect(names).toEqual([...tensors.keys()].filter((n) => !copies.test(n)).sort());
  const checkpoint = await readCheckpoint(`${fixtures}bart/base`);
  const some = new Map(checkpoint.tensors);
  some.delete('shared.weight');
  expect([...loadBart({ ...checkpoint, tensors: some }).parameters()].map(([n]) => n)).toContain('shared.weight');
  for (const name of ['encoder', 'decoder']) some.delete(`${name}.embed_tokens.weight`);
  expect(() => loadBart({ ...checkpoint, tensors: some })).toThrow(/shared\.weight: is missing, expected shape \[96, 24\]/);
});

test('its blocks say what they are', async () => {
  const kinds = blocksOf(await loaded('conditional')).map(([path, { kind }]) => [path, kind.cross, kind.heads, kind.hidden]);
  expect(kinds).toEqual([
    ['model.encoder.layers.0', false, 2, 40], ['model.decoder.layers.0', true, 4, 48], ['model.decoder.layers.1', true, 4, 48],
  ]);
});

async function train(model: Bart, steps: number): Promise<{ losses: number[]; names: string[] }> {
  const program = compileTraining({
    build: (graph: Graph) => {
      const [sources, ids, labels] = ['sources', 'ids', 'labels'].map((name) => graph.input(name, 'int64', [2, 4]));
      const { last } = model.decode(model.embed(ids!), model.encode(model.embed(sources!)));
      return { loss: loss(model, last, labels!) };
    },
    optimizer: adam(), groups: [{ name: 'all', match: () => true, lr: 0.01 }],
  });
  const session = await openProgram(runtime, program, initialState(program, Random.seeded(3)));
  const batch = {
    sources: int64([2, 4], [3, 9, 4, 7, 7, 2, 5, 4]), ids: int64([2, 4], [2, 8, 8, 6, 2, 5, 6, 7]),
    labels: int64([2, 4], [8, 8, 6, 2, 5, 6, 7, 2]),
  };
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const scalars = Object.fromEntries(Object.entries(stepScalars(program, step, 1)).map(([n, v]) => [n, scalar(v)]));
    const { loss: value } = await session.run({ ...batch, ...scalars }, { carry: program.carry, fetch: ['loss'] });
    losses.push(Number(value!.data[0]));
  }
  await session.release();
  return { losses, names: [...program.state].filter(([, { parameter }]) => parameter).map(([name]) => name) };
}

test('a new model learns, all of it but the buffer of the head', async () => {
  const model = newBart({
    model_type: 'bart', vocab_size: 12, max_position_embeddings: 8, d_model: 16, encoder_layers: 1, decoder_layers: 1,
    encoder_attention_heads: 2, decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24,
  });
  const { losses, names } = await train(model, 60);
  expect(losses.at(-1)).toBeLessThan(losses[0]! / 5);
  const all = [...model.parameters()].map(([name]) => name);
  expect(names.sort()).toEqual(all.filter((name) => name !== 'final_logits_bias').sort());
});

test('LoRA on the cross-attention trains its own parameters alone', async () => {
  const model = await loaded('conditional');
  const targets = ['encoder_attn.q_proj', 'encoder_attn.v_proj'];
  await attachLora(model, loraConfig.parse({ target_modules: targets, r: 2 }), { read: readParameter });
  const { losses, names } = await train(model, 20);
  expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.1);
  expect(names).toHaveLength(8);
  expect(names.every((name) => name.includes('.encoder_attn.') && name.includes('.lora_'))).toBe(true);
});

describe('is refused', () => {
  test.each([
    [{ normalize_before: true }, /normalize_before: is true, expected false, as BART has it/],
    [{ normalize_embedding: false }, /normalize_embedding: is false, expected true/],
    [{ decoder_attention_heads: 3 }, /decoder_attention_heads: 3 does not divide d_model 1024/],
    [{ pad_token_id: 60000 }, /pad_token_id: 60000 is no token of vocab_size 50265/],
    [{ model_type: 'mbart' }, /"mbart" is not supported/],
  ])('a configuration with %j', (change, message) => {
    expect(() => newBart({ model_type: 'bart', ...change })).toThrow(message);
  });

  test('a text that is longer than the positions, of either side', async () => {
    const model = await loaded('conditional');
    const long = (graph: Graph): Value => model.embed(graph.input('ids', 'int64', [1, 41]));
    const message = /41 tokens .* 40 positions; cut/;
    await expect(run(runtime, (graph) => ({ x: model.encode(long(graph)).last }), {})).rejects.toThrow(message);
    await expect(run(runtime, (graph) => {
      const tokens = long(graph);
      return { x: model.decode(tokens, { last: tokens }).last };
    }, {})).rejects.toThrow(message);
  });
});
