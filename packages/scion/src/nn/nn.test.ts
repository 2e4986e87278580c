import { describe, expect, test } from 'vitest';
import { vjp } from '../autodiff/grad.js';
import { Graph, type Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { attentionGrad } from '../passes/softmax-grad.js';
import { simplify } from '../passes/simplify.js';
import { Random } from '../util/random.js';
import { type Shape, float32, numel, scalar, tensor } from '../util/tensor.js';
import { LayerNorm, Linear, type Weights, attention, causalMask } from './layers.js';
import { Module } from './module.js';
import { Parameter, bind, boundParameters, frozen, init, setting, trained } from './parameter.js';
import { Encoder, type EncoderConfig, type Projection, activations } from './transformer.js';

const random = Random.seeded(17);
const normal = (shape: Shape): Float64Array => Float64Array.from({ length: numel(shape) }, () => random.normal());
const drawn: Weights = (_, shape) => trained(shape, init.normal(1));
const vision = { modality: 'vision', causal: false } as const;
const config: EncoderConfig = {
  hidden_size: 6, intermediate_size: 5, num_hidden_layers: 2, num_attention_heads: 3, hidden_act: 'gelu',
  layer_norm_eps: 1e-5,
};

type Feeds = Record<string, Float64Array>;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-12): void {
  expect(actual.length).toBe(expected.length);
  Array.from(expected).forEach((e, i) => {
    const close = Math.abs(actual[i]! - e) <= tolerance * Math.max(1, Math.abs(e)); // false for NaN
    if (!close) expect.fail(`[${i}] is ${actual[i]}, expected ${e}`);
  });
}

/** Runs a graph with random values for every input that is not given. */
function evaluate(graph: Graph, feeds: Feeds = {}): { feeds: Feeds; y: Float64Array } {
  for (const v of graph.inputs) if (v.source.kind === 'input') feeds[v.source.name] ??= normal(v.shape);
  return { feeds, y: evaluateGraph(graph, feeds).y!.data };
}

/** `x Wᵀ + b`, by the definition. */
function linear(
  x: Float64Array, w: Float64Array, bias: Float64Array, [rows, inner, out]: readonly [number, number, number],
): Float64Array {
  return Float64Array.from({ length: rows * out }, (_, i) => {
    const [r, o] = [Math.floor(i / out), i % out];
    return Array.from({ length: inner }, (_, k) =>
      x[r * inner + k]! * w[o * inner + k]!).reduce((s, v) => s + v, bias[o]!);
  });
}

/** Attention over x[token][image] by the definition, one image, head and query at a time. */
function naiveAttention(
  q: Float64Array, k: Float64Array, v: Float64Array, s: { tokens: number; batch: number; heads: number }, width: number,
  causal = false,
): Float64Array {
  const out = new Float64Array(q.length);
  const d = width / s.heads;
  const row = (token: number, image: number, head: number): number => (token * s.batch + image) * width + head * d;
  for (let n = 0; n < s.batch * s.heads * s.tokens; n++) {
    const [i, head, image] = [n % s.tokens, Math.floor(n / s.tokens) % s.heads, Math.floor(n / s.tokens / s.heads)];
    const scores = Array.from({ length: s.tokens }, (_, j) => {
      let dot = 0;
      for (let c = 0; c < d; c++) dot += q[row(i, image, head) + c]! * k[row(j, image, head) + c]!;
      return causal && j > i ? 0 : Math.exp(dot / Math.sqrt(d));
    });
    const total = scores.reduce((a, c) => a + c, 0);
    scores.forEach((p, j) => {
      for (let c = 0; c < d; c++) out[row(i, image, head) + c]! += p / total * v[row(j, image, head) + c]!;
    });
  }
  return out;
}

describe('a module tree', () => {
  const encoder = (): Encoder => new Encoder(drawn, config, vision).named();

  test('names its parameters as Hugging Face does', () => {
    const names = [...encoder().parameters()].map(([name]) => name);
    const layer = [
      'layer_norm1.weight', 'layer_norm1.bias',
      ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((p) => [`self_attn.${p}.weight`, `self_attn.${p}.bias`]),
      'layer_norm2.weight', 'layer_norm2.bias', 'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight', 'mlp.fc2.bias',
    ];
    expect(names).toEqual([0, 1].flatMap((i) => layer.map((name) => `layers.${i}.${name}`)));
    for (const [name, p] of encoder().parameters()) expect(p.name).toBe(name);
  });

  test('asks for weights by the same names and in these shapes', () => {
    const asked = new Map<string, Shape>();
    const tree = new Encoder((name, shape) => {
      asked.set(name, shape);
      return trained(shape, init.zeros);
    }, config, vision);
    expect([...tree.parameters()].map(([name]) => name).sort()).toEqual([...asked.keys()].sort());
    expect(asked.get('layers.1.mlp.fc1.weight')).toEqual([5, 6]);
    expect(asked.get('layers.1.mlp.fc2.bias')).toEqual([6]);
  });

  test('lists its modules with their paths', () => {
    const paths = [...encoder().modules()].map(([path]) => path);
    expect(paths.slice(0, 4)).toEqual(['', 'layers.0', 'layers.0.layer_norm1', 'layers.0.self_attn']);
    expect(paths).toContain('layers.1.mlp.fc2');
  });

  class Scaled extends Module implements Projection {
    private readonly scale: Parameter;
    constructor(old: Module) {
      super();
      this.child('base', old);
      this.scale = this.parameter('scale', new Parameter([], { kind: 'setting', value: scalar(2) }));
    }
    forward(x: Value): Value {
      return b.mul(this.part<Projection>('base').forward(x), bind(x.graph, this.scale));
    }
  }

  // in the output of the layer, the place of each of these is multiplied by `scale`
  test.each(['self_attn.out_proj', 'self_attn.q_proj', 'mlp.fc1', 'mlp', 'layer_norm1', 'layer_norm2'])(
    'puts another module in the place of %s, and uses it', (path) => {
      const tree = encoder();
      tree.replace(`layers.1.${path}`, (old) => new Scaled(old));
      tree.named();
      const graph = new Graph();
      graph.output('y', tree.forward(graph.input('x', 'float32', [2, 3, 6])));
      const { feeds, y } = evaluate(graph);
      const scale = `layers.1.${path}.scale`;
      expect(Object.keys(feeds)).toContain(scale);
      expect(evaluate(graph, { ...feeds, [scale]: Float64Array.of(feeds[scale]![0]! + 1) }).y).not.toEqual(y);
      expect(graph.nodes.some((n) => n.path === `layers.1.${path}`)).toBe(true);
    });

  test('puts another module in the place of a whole layer', () => {
    class Skip extends Module {
      forward(x: Value): Value {
        return x;
      }
    }
    const tree = encoder();
    for (const i of [0, 1]) tree.replace(`layers.${i}`, () => new Skip());
    const graph = new Graph();
    graph.output('y', tree.forward(graph.input('x', 'float32', [2, 3, 6])));
    expect(graph.nodes.every((n) => n.op === 'Transpose' || n.op === 'Reshape')).toBe(true);
  });

  test('tells layers.1 from layers.10, and refuses paths that are not there', () => {
    const tree = new Encoder(drawn, { ...config, num_hidden_layers: 11 }, vision);
    const replaced: string[] = [];
    tree.replace('layers.10.mlp.fc1', (old) => {
      replaced.push([...tree.modules()].find(([, m]) => m === old)![0]);
      return old;
    });
    expect(replaced).toEqual(['layers.10.mlp.fc1']);
    expect(() => tree.replace('layers.11', (m) => m)).toThrow('no module at layers.11');
    expect(() => tree.replace('layers.0.mlp.fc3', (m) => m)).toThrow('no module at fc3');
  });
});

describe('parameters', () => {
  test('become one input or constant per graph, of the role of their origin', () => {
    const graph = new Graph();
    const parameters = {
      t: trained([2], init.zeros), f: frozen(tensor('int64', [2], BigInt64Array.of(1n, 2n))), s: setting(0.5),
      e: new Parameter([2], { kind: 'external', dtype: 'float16', data: { path: '/w', offset: 8, byteLength: 4 } }),
    };
    for (const [name, p] of Object.entries(parameters)) {
      p.name = name;
      expect(bind(graph, p)).toBe(bind(graph, p));
    }
    expect(graph.inputs.map((v) => v.source.kind === 'input' && [v.source.name, v.source.role, v.dtype])).toEqual([
      ['t', 'state', 'float32'], ['f', 'frozen', 'int64'], ['s', 'state', 'float32'],
    ]);
    expect(bind(graph, parameters.e).dtype).toBe('float32');
    expect(graph.nodes.map((n) => n.op)).toEqual(['Cast']);
    expect([...boundParameters(graph).keys()]).toEqual(Object.values(parameters));
    expect(boundParameters(new Graph()).size).toBe(0);
    expect(bind(new Graph(), parameters.t)).not.toBe(bind(graph, parameters.t));
  });

  test('that a file holds transposed are turned after they are read', () => {
    const graph = new Graph();
    const data = { path: '/w', offset: 0, byteLength: 12 };
    const p = new Parameter([2, 3], { kind: 'external', dtype: 'float16', data, transposed: true });
    p.name = 'p';
    expect(bind(graph, p).shape).toEqual([2, 3]);
    expect(graph.constants[0]!.shape).toEqual([3, 2]);
    expect(graph.nodes.map((n) => n.op)).toEqual(['Cast', 'Transpose']);
  });

  test('start from what their init draws', () => {
    const r = (): Random => Random.seeded(1);
    expect([...init.zeros([2, 2]).data]).toEqual([0, 0, 0, 0]);
    expect([...init.constant(3)([2], r()).data]).toEqual([3, 3]);
    const weights = init.linear([200, 16], r()).data;
    expect(Math.max(...weights.map(Math.abs))).toBeLessThanOrEqual(0.25);
    expect(Math.max(...weights)).toBeGreaterThan(0.24);
    const spread = init.normal(0.02)([5000], r()).data;
    const std = Math.sqrt(spread.reduce((s, v) => s + v * v, 0) / 5000);
    expect(Math.abs(std - 0.02)).toBeLessThan(4 * 0.02 / Math.sqrt(2 * 5000));
  });
});

describe('layers', () => {
  test('Linear is x Wᵀ + b, or without b', () => {
    for (const bias of [true, false]) {
      const graph = new Graph();
      const layer = new Linear(drawn, 3, 4, bias);
      graph.output('y', layer.forward(graph.input('x', 'float32', [2, 3])));
      const { feeds, y } = evaluate(graph);
      expect('bias' in feeds).toBe(bias);
      expectClose(y, linear(feeds.x!, feeds.weight!, feeds.bias ?? new Float64Array(4), [2, 3, 4]));
    }
  });

  test('LayerNorm has rows of mean 0 and variance 1 before weight and bias', () => {
    const graph = new Graph();
    graph.output('y', new LayerNorm(drawn, 5, 0.01).forward(graph.input('x', 'float32', [3, 5])));
    const { feeds, y } = evaluate(graph);
    const expected = [0, 1, 2].flatMap((r) => {
      const row = [...feeds.x!.slice(r * 5, r * 5 + 5)];
      const mean = row.reduce((s, v) => s + v, 0) / 5;
      const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / 5;
      return row.map((v, i) => (v - mean) / Math.sqrt(variance + 0.01) * feeds.weight![i]! + feeds.bias![i]!);
    });
    expectClose(y, expected);
  });

  test.each([
    { tokens: 5, batch: 3, heads: 2 }, { tokens: 1, batch: 2, heads: 4 }, { tokens: 4, batch: 1, heads: 8 },
    { tokens: 3, batch: 5, heads: 1 },
  ])('attention with $tokens tokens, $batch images, $heads heads, with and without a mask', (shape) => {
    for (const causal of [false, true]) {
      const graph = new Graph();
      const [q, k, v] = ['q', 'k', 'v'].map((name) => graph.input(name, 'float32', [shape.tokens * shape.batch, 8]));
      graph.output('y', attention(q!, k!, v!, shape, causal ? causalMask(graph, shape.tokens) : undefined));
      const { feeds, y } = evaluate(graph);
      expectClose(y, naiveAttention(feeds.q!, feeds.k!, feeds.v!, shape, 8, causal));
    }
  });

  test('attention of fewer queries is that of these queries among all', () => {
    const shape = { tokens: 4, batch: 3, heads: 2 };
    const graph = new Graph();
    const [q, k, v] = ['q', 'k', 'v'].map((name) => graph.input(name, 'float32', [12, 8]));
    graph.output('y', attention(b.slice(q!, 0, 0, 3), k!, v!, { ...shape, tokens: 1 }));
    const { feeds, y } = evaluate(graph);
    expectClose(y, naiveAttention(feeds.q!, feeds.k!, feeds.v!, shape, 8).slice(0, 3 * 8));
  });
});

test('activations are those of their names', () => {
  const x = [-3, -0.5, 0, 0.7, 2];
  const expected = {
    relu: (v: number) => Math.max(0, v),
    quick_gelu: (v: number) => v / (1 + Math.exp(-1.702 * v)),
    gelu_new: (v: number) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
    gelu_pytorch_tanh: (v: number) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
  };
  for (const [name, f] of Object.entries(expected)) {
    const graph = new Graph();
    graph.output('y', activations[name as keyof typeof expected](graph.input('x', 'float32', [5])));
    expectClose(evaluate(graph, { x: Float64Array.from(x) }).y, x.map(f));
  }
  const graph = new Graph();
  graph.output('y', activations.gelu(graph.input('x', 'float32', [2])));
  expectClose(evaluate(graph, { x: Float64Array.of(1, -1) }).y, [0.8413447460685429, -0.15865525393145707]);
});

describe('an encoder', () => {
  const [batch, tokens, width] = [3, 5, 6];
  const build = (): Graph => {
    const graph = new Graph();
    const y = new Encoder(drawn, config, vision).named().forward(graph.input('x', 'float32', [batch, tokens, width]));
    graph.output('y', y);
    return graph;
  };

  test('gives [tokens, batch, width] by the definition, layer by layer', () => {
    const graph = build();
    const { feeds, y } = evaluate(graph);
    // reference rows: token · batch + image
    let rows: Float64Array = Float64Array.from({ length: batch * tokens * width }, (_, i) => {
      const [t, image, c] = [Math.floor(i / width / batch), Math.floor(i / width) % batch, i % width];
      return feeds.x![(image * tokens + t) * width + c]!;
    });
    const count = batch * tokens;
    const norm = (x: Float64Array, at: string): Float64Array => x.map((v, i) => {
      const row = x.slice(i - i % width, i - i % width + width);
      const mean = row.reduce((s, u) => s + u, 0) / width;
      const variance = row.reduce((s, u) => s + (u - mean) ** 2, 0) / width;
      const [scale, shift] = ['weight', 'bias'].map((p) => feeds[`${at}.${p}`]![i % width]!);
      return (v - mean) / Math.sqrt(variance + 1e-5) * scale! + shift!;
    });
    const apply = (x: Float64Array, at: string, inner: number, out: number): Float64Array =>
      linear(x, feeds[`${at}.weight`]!, feeds[`${at}.bias`]!, [count, inner, out]);
    const gelu = (x: Float64Array): Float64Array => {
      const g = new Graph();
      g.output('y', b.gelu(g.input('x', 'float32', [x.length])));
      return evaluateGraph(g, { x }).y!.data;
    };
    for (const layer of ['layers.0', 'layers.1']) {
      const at = `${layer}.self_attn`;
      const h = norm(rows, `${layer}.layer_norm1`);
      const [q, k, v] = ['q', 'k', 'v'].map((p) => apply(h, `${at}.${p}_proj`, width, width));
      const mixed =
        apply(naiveAttention(q!, k!, v!, { tokens, batch, heads: 3 }, width), `${at}.out_proj`, width, width);
      rows = rows.map((r, i) => r + mixed[i]!);
      const hidden = gelu(apply(norm(rows, `${layer}.layer_norm2`), `${layer}.mlp.fc1`, width, 5));
      const change = apply(hidden, `${layer}.mlp.fc2`, 5, width);
      rows = rows.map((r, i) => r + change[i]!);
    }
    expect(evaluateGraph(graph, feeds).y!.shape).toEqual([tokens, batch, width]);
    expectClose(y, rows, 1e-10);
  });

  test('has the gradient of central differences for input and parameters, before and after the passes', () => {
    const graph = build();
    const y = graph.outputs.get('y')!;
    const forward = simplify(graph);
    const dy = graph.input('dy', 'float32', y.shape);
    const inputs = graph.inputs.filter((v) => v !== dy);
    const names = inputs.map((v) => (v.source.kind === 'input' ? v.source.name : ''));
    vjp(y, dy, inputs).forEach((g, i) => graph.output(`d.${names[i]}`, g));
    const { feeds } = evaluate(graph);
    // small weights: the numeric side loses less
    for (const name of names) if (name !== 'x') feeds[name] = feeds[name]!.map((v) => v * 0.5);
    const exact = evaluateGraph(graph, feeds);
    const optimised = evaluateGraph(simplify(attentionGrad(simplify(graph))), feeds);
    const loss = (): number => evaluateGraph(forward, feeds).y!.data.reduce((s, v, i) => s + v * feeds.dy![i]!, 0);
    const step = 1e-5;
    for (const name of names) {
      const x = feeds[name]!;
      const gradient = exact[`d.${name}`]!;
      expect(gradient.data.length).toBe(x.length);
      expectClose(optimised[`d.${name}`]!.data, gradient.data, 1e-6); // constants folded to float32
      // one element of each, and a random direction through all of them
      const directions = [x.map((_, i) => Number(i === x.length - 1)), x.map(() => random.normal())];
      for (const direction of directions) {
        const at = (t: number): number => {
          feeds[name] = x.map((v, i) => v + t * direction[i]!);
          return loss();
        };
        const numeric = (at(step) - at(-step)) / (2 * step);
        feeds[name] = x;
        const analytic = gradient.data.reduce((s, g, i) => s + g * direction[i]!, 0);
        // constants of the program (1/√2, 1/√d) are float32
        expect(Math.abs(analytic - numeric) / Math.max(1, Math.abs(numeric)), name).toBeLessThan(1e-6);
      }
    }
  });
});

test('a frozen tensor is handed to the caller as it is', () => {
  const value = float32([2], [1, 2]);
  expect(frozen(value).origin).toEqual({ kind: 'frozen', value });
});
