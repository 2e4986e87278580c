/** Routing in GPT-2, whose queries, keys and values are one projection. */
import { afterAll, expect, test } from 'vitest';
import { readCheckpoint } from '../../hub/checkpoint.js';
import type { Graph, Value } from '../../ir/graph.js';
import { loadTextModel } from '../../models/text-models.js';
import * as f from '../../nn/functional.js';
import { readParameter } from '../../nn/parameter-values.js';
import { setRoutes } from '../../nn/routes.js';
import { nodeRuntime } from '../../runtime/node.js';
import { Random } from '../../util/random.js';
import { type Tensor, int64, numel } from '../../util/tensor.js';
import { adapter } from '../adapter/index.js';
import type { BackboneMethod } from '../backbone-method.js';
import { lora } from '../lora/index.js';
import { compute, distance, drawn, fixtures, objective } from '../testing/adapted.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());
const [batch, tokens] = [2, 4];

const rows: readonly [string, BackboneMethod, object][] = [
  ['gpt2/base', lora, { target_modules: 'c_attn', fused_parts: 'q,v', r: 4 }],
  ['gpt2/base', adapter, { bottleneck_dim: 4, non_linearity: 'model' }],
];

test.each(rows)('%s: as many numbers, the model at the start, then the picture', async (folder, method, config) => {
  const model = async (options?: object) => {
    const tree = loadTextModel(await readCheckpoint(fixtures + folder));
    if (options) await method.attach(tree, method.config.parse(options), { read: readParameter });
    return tree;
  };
  type Tree = Awaited<ReturnType<typeof model>>;
  const [base, plain, routed] = [await model(), await model(config), await model({ ...config, routing: 'mul' })];
  const trained = (tree: Tree) => [...tree.parameters()].flatMap(([name, { shape, origin }]) =>
    (origin.kind === 'trained' ? [{ name, shape, init: origin.init }] : []));
  expect(trained(routed).map(({ name, shape }) => [name, shape])).toEqual(trained(plain).map(({ name, shape }) => [name, shape]));
  expect(trained(routed).length).toBeGreaterThan(0);

  const ids = int64([batch, tokens], Array.from({ length: batch * tokens }, (_, i) => 3 + i));
  const states = (tree: Tree) => (graph: Graph): Value => {
    setRoutes(graph, { visual: graph.input('visual', 'float32', [1, batch, tree.width]) });
    const words = tree.embed(graph.input('ids', 'int64', ids.shape));
    if (tree.kind === 'encoder') return tree.encode(words).last;
    if (tree.kind === 'decoder') return tree.decode(words).last;
    throw new Error('an encoder with a decoder');
  };
  const visual = (seed: number): Tensor<'float32'> => drawn([1, batch, base.width], Random.seeded(seed));
  const output = async (tree: Tree, picture: number, values: Record<string, Tensor<'float32'>> = {}): Promise<Tensor> =>
    (await compute(runtime, (graph) => ({ y: states(tree)(graph) }), { ids, visual: visual(picture) }, values))['y']!;
  const random = Random.seeded(4);
  const start = Object.fromEntries(trained(routed).map(({ name, shape, init }) => [name, init(shape, random.child(name))]));
  expect(distance(await output(routed, 1, start), await output(base, 1))).toBeLessThan(1e-6);
  const values = Object.fromEntries(trained(routed).map(({ name, shape }) => [name, drawn(shape, random.child(name))]));
  expect(distance(await output(routed, 1, values), await output(routed, 2, values))).toBeGreaterThan(1e-3);
  expect(distance(await output(plain, 1, values), await output(plain, 2, values))).toBe(0);

  const got = await objective(runtime, (graph) => f.reduceMean(f.reduceSumSquare(states(routed)(graph), [2])), {
    ids, visual: visual(1),
  }, values);
  for (const { name, shape } of trained(routed)) {
    const gradient = got[`grad.${name}`]!;
    expect(numel(gradient.shape)).toBe(numel(shape));
    expect((gradient.data as Float32Array).every(Number.isFinite)).toBe(true);
  }
});
