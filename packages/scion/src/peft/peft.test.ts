import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { Graph } from '../ir/graph.js';
import { bind } from '../nn/parameter.js';
import { evaluateGraph } from '../ops/evaluate.js';
import { nodeRuntime } from '../runtime/node.js';
import { openClassifier } from '../trainer/classifier.js';
import { compileFeatureTraining, fit } from '../trainer/fit.js';
import { checkParity } from '../trainer/parity.js';
import { resolveRecipe } from '../trainer/recipe.js';
import { Random } from '../util/random.js';
import { float32, toFloat64 } from '../util/tensor.js';
import { classMeans, classTexts, normaliseRows } from './feature-method.js';
import { adaptedTexts, aggregate, convolve, partition } from './graph-adapter/layer.js';
import { naiveConvolution } from './graph-adapter/testing/naive.js';
import { type FeatureMethod, getMethod, isBackboneMethod, methodNames } from './index.js';
import { registerMethod } from './registry.js';
import { featureMethod, sampleInputs } from './testing/inputs.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

/** Plain matrices in double precision. */
type Matrix = number[][];
const matrix = (t: { shape: readonly number[]; data: ArrayLike<number> }): Matrix =>
  Array.from({ length: t.shape[0]! }, (_, r) =>
    Array.from({ length: t.shape[1]! }, (_v, c) => t.data[r * t.shape[1]! + c]!),
  );
const times = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((s, v, k) => s + v * b[k]![j]!, 0)));
const transposed = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((row) => row[j]!));
const unit = (a: Matrix): Matrix => a.map((row) => row.map((v) => v / Math.hypot(...row)));
const mix = (a: Matrix, x: number, b: Matrix, y: number): Matrix =>
  a.map((row, i) => row.map((v, j) => x * v + y * b[i]![j]!));

async function logitsOf(
  name: string,
  inputs: ReturnType<typeof sampleInputs>,
  values: Record<string, ReturnType<typeof float32>>,
  config: object,
) {
  const method = featureMethod(name);
  const classifier = await openClassifier(runtime, method.create(inputs, method.config.parse(config)), values);
  try {
    return matrix({
      shape: [inputs.support.labels.length, inputs.classes],
      data: await classifier.logits(inputs.support),
    });
  } finally {
    await classifier.release();
  }
}

function expectClose(actual: Matrix, expected: Matrix, tolerance = 2e-5): void {
  expect(actual.length).toBe(expected.length);
  const scale = Math.max(1, ...expected.flat().map(Math.abs));
  actual.forEach((row, i) =>
    row.forEach((v, j) => {
      expect(Math.abs(v - expected[i]![j]!) / scale, `[${i}, ${j}] ${v} against ${expected[i]![j]}`).toBeLessThan(
        tolerance,
      );
    }),
  );
}

describe('definitions, against plain arithmetic', () => {
  const inputs = sampleInputs(5, 8, 3);
  const random = Random.seeded(9);
  const draw = (...shape: [number, number]) =>
    float32(
      shape,
      Array.from({ length: shape[0] * shape[1] }, () => random.normal() * 0.3),
    );
  const features = matrix(inputs.support.features);
  const texts = matrix(classTexts(inputs.text!));
  const cosine = (f: Matrix, t: Matrix): Matrix =>
    times(unit(f), transposed(unit(t))).map((row) => row.map((v) => 10 * v));
  /** The mean over the two templates of a class, each of norm 1. */
  const directions = ((): Matrix => {
    const [classes, templates, dim] = inputs.text!.shape as [number, number, number];
    const all = unit(matrix({ shape: [classes * templates, dim], data: inputs.text!.data }));
    return texts.map((row, k) => row.map((_v, j) => (all[2 * k]![j]! + all[2 * k + 1]![j]!) / 2));
  })();

  test('templates of unequal length have directions apart from their mean', () => {
    const apart = unit(directions).map((row, k) => Math.max(...row.map((v, j) => Math.abs(v - unit(texts)[k]![j]!))));
    expect(Math.max(...apart)).toBeGreaterThan(0.01);
  });

  test('zero-shot', async () => {
    expectClose(await logitsOf('zero-shot', inputs, {}, {}), cosine(features, directions));
  });

  test('linear probe', async () => {
    const [weight, bias] = [draw(5, 8), float32([5], [1, -1, 0.5, 0, 2])];
    const expected = times(unit(features), transposed(matrix(weight))).map((row) =>
      row.map((v, k) => v + bias.data[k]!),
    );
    expectClose(await logitsOf('linear-probe', inputs, { weight, bias }, {}), expected);
  });

  test('simpleshot', async () => {
    // the means themselves are not normalised
    const means = Array.from({ length: 5 }, (_, k) => {
      const own = unit(features).filter((_r, row) => inputs.support.labels[row] === k);
      return own[0]!.map((_v, j) => own.reduce((sum, row) => sum + row[j]!, 0) / own.length);
    });
    const distance = (a: number[], c: number[]): number => a.reduce((sum, v, j) => sum + (v - c[j]!) ** 2, 0);
    // ‖f̂‖² is the same for all classes: half of it, times the scale of 10
    const expected = unit(features).map((row) => means.map((mean) => -10 / 2 * distance(row, mean) + 5));
    expectClose(await logitsOf('simpleshot', inputs, {}, {}), expected);
  });

  test.each([
    ['tip-adapter', {}],
    ['tip-adapter-f', { keys: draw(15, 8) }],
  ] as const)('%s', async (name, values) => {
    const keys = 'keys' in values ? matrix(values.keys) : unit(features);
    const affinity = times(unit(features), transposed(keys));
    const onehot = Array.from(inputs.support.labels, (l) => Array.from({ length: 5 }, (_, k) => Number(k === l)));
    const cache = times(
      affinity.map((row) => row.map((v) => Math.exp(-3 * (1 - v)))),
      onehot,
    );
    expectClose(
      await logitsOf(name, inputs, values, { alpha: 1.7, beta: 3 }),
      mix(cosine(features, directions), 1, cache, 1.7),
    );
  });

  test('clip-adapter', async () => {
    const [down, up] = [draw(4, 8), draw(8, 4)];
    const relu = (a: Matrix): Matrix => a.map((row) => row.map((v) => Math.max(0, v)));
    const adapted = relu(times(relu(times(features, transposed(matrix(down)))), transposed(matrix(up))));
    const logits = await logitsOf(
      'clip-adapter',
      inputs,
      { 'fc.0.weight': down, 'fc.2.weight': up },
      { ratio: 0.4, reduction: 2 },
    );
    expectClose(logits, cosine(mix(adapted, 0.4, features, 0.6), texts));
  });

  test('taskres', async () => {
    const residual = draw(5, 8);
    const logits = await logitsOf('taskres', inputs, { text_feature_residuals: residual }, { alpha: 0.5 });
    expectClose(logits, cosine(features, mix(texts, 1, matrix(residual), 0.5)));
  });
});

describe('GraphAdapter', () => {
  // The constant aggregation against the published computation, graph by graph, in float64 and in ONNX Runtime.
  test.each([
    [37, 4],
    [37, 1],
    [8, 4],
    [3, 4],
    [12, 5],
  ])('both forms agree: K = %i, P = %i', async (classes, partitions) => {
    const dim = 16;
    const inputs = sampleInputs(classes, dim, 2);
    const random = Random.seeded(4);
    const graph = new Graph();
    const [t, v] = [graph.input('t', 'float32', [classes, dim]), graph.input('v', 'float32', [classes, dim])];
    const [w, b] = [graph.input('w', 'float32', [dim, dim]), graph.input('b', 'float32', [classes, dim])];
    for (const [name, nodes] of [
      ['text', t],
      ['visual', v],
    ] as const) {
      graph.output(`${name}_fast`, convolve({ aggregated: aggregate(t, nodes, partitions), weight: w, bias: b }));
      graph.output(`${name}_naive`, naiveConvolution(t, nodes, w, b, partitions));
    }
    const feeds = {
      t: classTexts(inputs.text!),
      v: classMeans(inputs),
      w: float32(
        [dim, dim],
        Array.from({ length: dim * dim }, () => random.uniform(-0.25, 0.25)),
      ),
      b: float32(
        [classes, dim],
        Array.from({ length: classes * dim }, () => random.normal() * 0.1),
      ),
    };
    const exact = evaluateGraph(graph, Object.fromEntries(Object.entries(feeds).map(([k, x]) => [k, toFloat64(x)])));
    const { encodeModel } = await import('../onnx/encode.js');
    const session = await runtime.load(encodeModel(graph));
    const single = await session.run(feeds);
    await session.release();
    for (const name of ['text', 'visual']) {
      const oracle = exact[`${name}_naive`]!.data;
      expect(Math.max(...oracle.map(Math.abs))).toBeGreaterThan(0.1);
      oracle.forEach((x, i) => {
        expect(Math.abs(exact[`${name}_fast`]!.data[i]! - x)).toBeLessThan(1e-12);
        for (const form of ['fast', 'naive'])
          expect(Math.abs(Number(single[`${name}_${form}`]!.data[i]) - x)).toBeLessThan(1e-5);
      });
    }
  });

  test('partitions cover every class once and differ by one at most', () => {
    for (const [k, p] of [
      [37, 4],
      [4, 4],
      [3, 8],
      [100, 1],
    ] as const) {
      const groups = partition(k, p);
      expect(groups.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: k }, (_, i) => i));
      const sizes = groups.map((g) => g.length);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      groups.forEach((g, i) => expect(g.every((c) => c % groups.length === i)).toBe(true));
    }
  });

  test('trains 2 (d² + K d) numbers, and the aggregation is not in the step', () => {
    const inputs = sampleInputs(6, 8, 2);
    const { recipe } = resolveRecipe({ features: 'x', method: 'graph-adapter' });
    const method = featureMethod('graph-adapter');
    const program = compileFeatureTraining(method.create(inputs, recipe.config), inputs.support, recipe.training!);
    const trained = [...program.state.values()].filter((s) => s.parameter);
    expect(trained.reduce((n, s) => n + s.shape.reduce((a, b) => a * b, 1), 0)).toBe(2 * (8 * 8 + 6 * 8));
    // with four partitions the aggregation needs 24 products, the step two and their gradients beside the logits
    const products = (g: Graph) => g.nodes.filter((n) => /MatMul|Gemm/.test(n.op)).length;
    expect(products(program.prologue!)).toBe(2 * 4 * 3);
    expect(products(program.step)).toBeLessThanOrEqual(6);
  });

  test('α and β mix as published', () => {
    const graph = new Graph();
    const t = graph.input('t', 'float32', [2, 2]);
    const zero = {
      aggregated: graph.input('a', 'float32', [1, 2, 2]),
      weight: graph.input('w', 'float32', [2, 2]),
      bias: graph.input('b', 'float32', [2, 2]),
    };
    const other = { ...zero, bias: graph.input('b2', 'float32', [2, 2]) };
    graph.output('y', adaptedTexts(t, zero, other, 0.7, 0.6));
    const y = evaluateGraph(graph, {
      t: Float64Array.of(1, 2, 3, 4),
      a: new Float64Array(4),
      w: new Float64Array(4),
      b: new Float64Array(4).fill(Math.atanh(0.5)),
      b2: new Float64Array(4).fill(Math.atanh(-0.2)),
    }).y!.data;
    [1, 2, 3, 4].forEach((v, i) => expect(y[i]).toBeCloseTo(0.6 * v + 0.4 * (0.7 * 0.5 + 0.3 * -0.2), 6));
  });
});

test('reference files: every output and gradient', async () => {
  const folder = fileURLToPath(new URL('../../../../fixtures/methods', import.meta.url));
  const results = await checkParity(folder);
  const own = results.filter((r) => r.file.startsWith('graph-adapter-'));
  expect(own).toHaveLength(2);
  for (const { file, tensors } of own) {
    expect(tensors.map((t) => t.name).sort()).toEqual([
      'adapted_text_features',
      'grad_text_gcn_bias',
      'grad_text_gcn_weight',
      'grad_visual_gcn_bias',
      'grad_visual_gcn_weight',
      'logits',
      'loss',
    ]);
    for (const t of tensors) expect(t.ok, `${file} ${t.name} ${t.error}`).toBe(true);
  }
  // files of methods that do not exist yet are listed, not passed
  expect(results.filter((r) => r.method === undefined).every((r) => r.tensors.length === 0)).toBe(true);
});

describe.each(methodNames().filter((name) => !isBackboneMethod(getMethod(name))))('%s', (name) => {
  const inputs = sampleInputs(4, 8, 5, 1, 3);
  const method = featureMethod(name);
  const { recipe } = resolveRecipe({
    features: 'x',
    method: name,
    ...(getMethod(name).training ? { training: { epochs: 3 } } : {}),
  });
  const module = () => method.create(inputs, recipe.config);
  const before = async (m: FeatureMethod): Promise<Float32Array> => {
    const values = Object.fromEntries(
      [...m.create(inputs, recipe.config).parameters()].flatMap(([n, p]) =>
        p.origin.kind === 'trained' ? [[n, p.origin.init(p.shape, Random.seeded(1).child('init', n))]] : [],
      ),
    );
    const classifier = await openClassifier(runtime, m.create(inputs, recipe.config), values);
    const out = await classifier.logits(inputs.support);
    await classifier.release();
    return out;
  };

  test('names every parameter once and binds it', () => {
    const names = [...module().parameters()].map(([n, p]) => {
      expect(p.name).toBe(n);
      return n;
    });
    expect(new Set(names).size).toBe(names.length);
  });

  if (method.training) {
    test('training changes the output, through the trained parameters alone', async () => {
      const untrained = await before(method);
      const { values } = await fit({
        runtime,
        module: module(),
        train: inputs.support,
        training: recipe.training!,
        random: Random.seeded(1),
      });
      const trained = [...module().parameters()].filter(([, p]) => p.origin.kind === 'trained').map(([n]) => n);
      expect(Object.keys(values).sort()).toEqual(trained.sort());
      const classifier = await openClassifier(runtime, module(), values);
      const after = await classifier.logits(inputs.support);
      await classifier.release();
      expect(after.some((v, i) => Math.abs(v - untrained[i]!) > 1e-4)).toBe(true);
      expect(after.every(Number.isFinite)).toBe(true);
    });
  } else {
    test('trains nothing', () => {
      expect([...module().parameters()].every(([, p]) => p.origin.kind !== 'trained')).toBe(true);
    });
  }

  test('what it searches are its own settings or configuration', () => {
    const grid = Object.keys(method.search?.grid ?? {});
    const known = Object.keys(method.config.shape);
    for (const key of grid) expect(known).toContain(key);
    if (method.search?.when === 'evaluate') {
      const settings = [...module().parameters()].filter(([, p]) => p.origin.kind === 'setting').map(([n]) => n);
      for (const key of grid) expect(settings).toContain(key);
    }
  });

  test('an unknown hyper-parameter is refused with the nearest name', () => {
    expect(() => resolveRecipe({ features: 'x', method: name, config: { alphaa: 1 } })).toThrow(
      /config\.alphaa: unknown key "alphaa"/,
    );
  });
});

test('a second method of the same name is refused', () => {
  expect(() => registerMethod(getMethod('taskres'))).toThrow(/two methods named taskres/);
});

test('rows of zeros normalise to zeros', () => {
  expect(Array.from(normaliseRows(float32([2, 2], [0, 0, 3, 4])).data)).toEqual([
    0,
    0,
    Math.fround(0.6),
    Math.fround(0.8),
  ]);
});

test('a parameter is bound once per graph', () => {
  const graph = new Graph();
  const [[, p]] = [
    ...featureMethod('taskres')
      .create(sampleInputs(2, 4, 1), { alpha: 1 })
      .parameters(),
  ] as [[string, never]];
  expect(bind(graph, p)).toBe(bind(graph, p));
});
