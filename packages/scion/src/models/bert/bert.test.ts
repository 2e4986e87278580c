import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import * as f from '../../nn/functional.js';
import { readParameter } from '../../nn/parameter-values.js';
import { adapterConfig, adapter } from '../../peft/adapter/index.js';
import { unfreeze } from '../../peft/backbone-method.js';
import { attachLora, loraConfig } from '../../peft/lora/index.js';
import { compileObjective } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { type Graph } from '../../ir/graph.js';
import { newRoberta } from '../roberta/index.js';
import { batchFirst, expectClose, expected, fixtures, run, testRuntime } from '../testing/reference.js';
import { loadTextModel } from '../text-models.js';
import { maskedLanguageLoss } from '../../nn/text-model.js';
import { type BertEncoder, newBert } from './index.js';

const runtime = testRuntime();
const loaded = async (name: string): Promise<BertEncoder> =>
  loadTextModel(await readCheckpoint(fixtures + name)) as BertEncoder;
const withHead = ['roberta/masked-lm', 'bert/masked-lm', 'bert/pretraining'];
type Want = Awaited<ReturnType<typeof expected>>;

function loss(model: BertEncoder, graph: Graph, want: Want) {
  const feed = (name: string) => graph.input(name, want(name).dtype, want(name).shape);
  const mask = feed('mask');
  const { states, last } = model.encode(model.embed(feed('ids')), mask);
  return { states, last, mask, feed, of: () => maskedLanguageLoss(model, last, { rows: feed('rows'), labels: feed('labels') }) };
}

describe.each(['roberta/model', 'roberta/classifier', 'bert/model', ...withHead])('%s', (name) => {
  test('gives the states of transformers at every layer', async () => {
    const [model, want] = [await loaded(name), await expected(name)];
    const got = await run(runtime, (graph) => {
      const { states, mask } = loss(model, graph, want);
      const shown = Object.entries(batchFirst(states, 'state'));
      const counts = f.reshape(mask, [...mask.shape, 1]);
      return Object.fromEntries(shown.map(([key, s]) => [key, f.mul(s, counts)]));
    }, { ids: want('ids'), mask: want('mask') });
    expect(Object.keys(got).length).toBe(3);
    for (const [key, tensor] of Object.entries(got)) expectClose(tensor, want(key), key);
  });

  test('says whether it has a head', async () => {
    const model = await loaded(name);
    expect(model.hasHead).toBe(withHead.includes(name));
    if (model.hasHead) return;
    await expect(run(runtime, (graph) => ({ y: model.logits(graph.input('x', 'float32', [2, 24])) }), {}))
      .rejects.toThrow(/has no head of masked-language modelling/);
  });
});

test.each(withHead)('%s gives the logits, loss and gradients of transformers', async (name) => {
  const [model, want] = [await loaded(name), await expected(name)];
  const feeds = Object.fromEntries(['ids', 'mask', 'rows', 'labels'].map((key) => [key, want(key)]));
  const { logits } = await run(runtime, (graph) => {
    const { last, feed } = loss(model, graph, want);
    return { logits: model.logits(f.gather(f.reshape(last, [-1, model.width]), feed('rows'))) };
  }, { ids: want('ids'), mask: want('mask'), rows: want('rows') });
  expectClose(logits, want('logits'), 'logits');
  const shown = /word_emb|position_emb|0.*query.weight|1.output.LayerNorm.weight|decoder|(lm_head|predictions).bias/;
  const chosen = [...model.parameters()].filter(([n]) => shown.test(n));
  await unfreeze(chosen.map(([, p]) => p), { read: readParameter });
  const program = compileObjective((graph) => loss(model, graph, want).of());
  const values = Object.fromEntries(await Promise.all(chosen.map(async ([n, p]) =>
    [n, p.origin.kind === 'trained' ? p.origin.init(p.shape, undefined as never) : await readParameter(p)] as const)));
  const session = await openProgram(runtime, program, values);
  const got = await session.run(feeds);
  await session.release();
  expectClose(got['loss'], want('loss'), 'loss');
  for (const [n] of chosen) expectClose(got[`grad.${n}`], want(`grad.${n}`), n);
});

const tiny = {
  vocab_size: 20, hidden_size: 8, num_attention_heads: 2, intermediate_size: 12, num_hidden_layers: 2,
  max_position_embeddings: 10,
};

test('LoRA and adapters find their places in every layer', async () => {
  const trained = (model: BertEncoder): string[] =>
    [...model.parameters()].flatMap(([n, p]) => (p.origin.kind === 'trained' ? [n] : []));
  const low = await loaded('roberta/masked-lm');
  await attachLora(low, loraConfig.parse({ target_modules: ['query', 'value'] }), { read: readParameter });
  expect(trained(low).length).toBe(2 * 2 * 2);
  for (const [placement, places] of [['houlsby', 2], ['pfeiffer', 1], ['parallel', 1]] as const) {
    const model = await loaded('bert/masked-lm');
    await adapter.attach(model, adapterConfig.parse({ placement }), { read: readParameter });
    expect(trained(model).length, placement).toBe(2 * places * 4);
  }
});

test.each([
  [newRoberta, { model_type: 'bert' }, /^config: model_type "bert" is not supported; supported is "roberta"/],
  [newRoberta, { model_type: 'roberta', ...tiny, max_position_embeddings: 2 }, /max_position_embeddings: is 2, expected more than 2/],
  [newBert, { model_type: 'bert', position_embedding_type: 'relative_key' }, /expected "absolute", since/],
  [newBert, { model_type: 'bert', is_decoder: true }, /is_decoder: is true, expected false, since/],
  [newBert, { model_type: 'bert', ...tiny, pad_token_id: 20 }, /pad_token_id: 20 is no token of vocab_size 20/],
])('a configuration that makes no sense is refused: %#', (make, config, message) => {
  expect(() => make(config)).toThrow(message);
});

test('longer texts than there are positions, and missing tensors, are refused by name', async () => {
  const model = newRoberta({ model_type: 'roberta', ...tiny });
  expect(model.positions).toBe(8);
  await expect(run(runtime, (graph) => ({ y: model.encode(model.embed(graph.input('ids', 'int64', [1, 9]))).last }), {}))
    .rejects.toThrow('texts of 9 tokens for a model with 8 positions; cut them to 8');
  const checkpoint = await readCheckpoint(`${fixtures}roberta/model`);
  const tensors = new Map(checkpoint.tensors);
  tensors.delete('encoder.layer.1.attention.self.value.bias');
  expect(() => loadTextModel({ ...checkpoint, tensors })).toThrow(/layer\.1\.attention\.self\.value\.bias: is missing/);
});
