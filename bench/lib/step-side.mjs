// Scion's side of a benchmark of training steps, in a process of its own; the requests are those of peers/engine.py.
import { encodeModel } from '../../packages/scion/dist/onnx/encode.js';
import { Graph } from '../../packages/scion/dist/ir/graph.js';
import * as b from '../../packages/scion/dist/ops/build.js';
import { adamw } from '../../packages/scion/dist/optim/adam.js';
import { nodeRuntime } from '../../packages/scion/dist/runtime/node.js';
import {
  compileInference, compileTraining, initialState, stepScalars,
} from '../../packages/scion/dist/trainer/compile.js';
import { Random } from '../../packages/scion/dist/util/random.js';
import { float32, scalar } from '../../packages/scion/dist/util/tensor.js';
import { matrixFlops } from './flops.mjs';
import { peakMemory } from './machine.mjs';
import { serve } from './processes.mjs';

const runtime = nodeRuntime();
const seconds = async (body) => {
  const start = performance.now();
  const result = await body();
  return { seconds: (performance.now() - start) / 1e3, result };
};

/** The mean squared difference of y to the input `target`. */
export function squaredDifference(y) {
  const difference = b.sub(y, y.graph.input('target', 'float32', y.shape));
  return b.reduceMean(b.mul(difference, difference));
}

const random = (rows, columns) =>
  float32([rows, columns], Float32Array.from({ length: rows * columns }, () => Math.random() - 0.5));

/**
 * Answers until stdin ends.
 * @param {(request: any) => Promise<{
 *   model: (graph: Graph) => { loss: any, y: any },
 *   trained: (name: string) => any,
 *   feeds: Record<string, any>,
 *   rows: number,
 *   chain: any[],
 * }>} open the model with its loss, the values of its trained parameters, one batch; for the rate of its own products
 *   the rows of tokens in it, and the matrices [out, in] that are multiplied one after the other
 */
export async function serveSteps(open) {
  const sessions = {};
  let given, program, threads;
  let step = 0;

  /** What the process is asked to hold: a process whose memory is measured holds one part alone. */
  const parts = {
    async train({ profile, recompute }) {
      program = compileTraining({
        build: (graph) => ({ loss: given.model(graph).loss }), optimizer: adamw({ weightDecay: 0.01 }),
        groups: [{ name: 'all', match: () => true, lr: 1e-4 }], recompute,
      });
      sessions.train = await runtime.load(encodeModel(program.step), { threads, ...(profile ? { profile } : {}) });
      await sessions.train.hold(initialState(program, Random.seeded(0)));
      return matrixFlops(program.step);
    },
    async forward() {
      const inference = compileInference(given.model);
      sessions.forward = await runtime.load(encodeModel(inference.step), { threads });
      await sessions.forward.hold(Object.fromEntries(inference.parameters.map((p) => [p.name, given.trained(p.name)])));
      return matrixFlops(inference.step);
    },
  };

  /** Gives out one element, so that the product itself stays in the session; nothing but the products is measured. */
  async function rate(graph, y, held) {
    graph.output('corner', b.slice(b.slice(y, 0, 0, 1), 1, 0, 1));
    const session = await runtime.load(encodeModel(graph), { threads });
    await session.hold(held);
    return Object.assign(session, { flops: matrixFlops(graph) });
  }

  /** Repeats a product for about a quarter of a second. */
  async function perSecond(session) {
    const times = Math.max(1, Math.round(7e10 / session.flops));
    const { seconds: time } = await seconds(async () => {
      for (let i = 0; i < times; i++) await session.run({});
    });
    return times * session.flops / time;
  }

  function product(n) {
    const graph = new Graph();
    const y = b.matmul(graph.input('a', 'float32', [n, n]), graph.input('b', 'float32', [n, n]));
    return rate(graph, y, { a: random(n, n), b: random(n, n) });
  }

  function chain() {
    const graph = new Graph();
    const { rows, chain: matrices } = given;
    const width = matrices[0].shape[1];
    let y = graph.input('x', 'float32', [rows, width]);
    matrices.forEach(({ dtype, shape, ...place }, i) => {
      y = b.gemm(y, graph.external(`matrix.${i}`, { dtype, shape }, place), undefined, { transB: 1 });
    });
    return rate(graph, y, { x: random(rows, width) });
  }

  await serve({
    async load({ threads: n, parts: wanted, profile, recompute, ...request }) {
      threads = n;
      given = await open(request);
      const flops = {};
      for (const part of wanted) flops[part] = await parts[part]({ profile, recompute });
      return { flops };
    },
    async train() {
      const feeds = Object.fromEntries(Object.entries(stepScalars(program, step++, 1)).map(([k, v]) => [k, scalar(v)]));
      const run = () => sessions.train.run({ ...feeds, ...given.feeds }, { carry: program.carry, fetch: ['loss'] });
      const { seconds: time, result } = await seconds(run);
      return { seconds: time, loss: result.loss.data[0] };
    },
    async forward() {
      const { seconds: time, result } = await seconds(() => sessions.forward.run(given.feeds, { fetch: ['loss'] }));
      return { seconds: time, loss: result.loss.data[0] };
    },
    async output() {
      const { y } = await sessions.forward.run(given.feeds, { fetch: ['y'] });
      return { shape: y.shape, values: [...y.data] };
    },
    /**
     * Operations per second of products through ONNX Runtime on the same threads: of square ones of several sizes, and
     * of a chain of the encoder's own (fc1, fc2 of every layer, on as many rows) with nothing between them.
     */
    async products({ sizes }) {
      const large = {};
      for (const n of sizes) large[n] = await perSecond(sessions[n] ??= await product(n));
      return { large, own: await perSecond(sessions.chain ??= await chain()) };
    },
    memory: () => ({ peak_rss_bytes: peakMemory() }),
    async release() {
      for (const session of Object.values(sessions)) await session.release();
    },
  });
  await runtime.close();
}
