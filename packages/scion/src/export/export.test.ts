/** Exported models give what Scion gives, at any batch and sequence length, by ONNX's own ops alone. */
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseImageProcessor, processImage, readImageProcessor } from '../data/image-processor.js';
import { imageProcessorConfig } from '../data/image-processor-config.js';
import { readTokenizer } from '../data/tokenizer.js';
import { readCheckpoint } from '../hub/checkpoint.js';
import { Graph, type Value } from '../ir/graph.js';
import { loadBackbone } from '../models/index.js';
import * as f from '../nn/functional.js';
import { decodeModel } from '../onnx/decode.js';
import { modelProto } from '../onnx/encode.js';
import { type NodeSpec, onnxModel } from '../onnx/testing/model.js';
import { exportRun, loadRun, train } from '../index.js';
import { nodeRuntime } from '../runtime/node.js';
import { compileInference } from '../trainer/compile.js';
import { openProgram } from '../trainer/program.js';
import { type Tensor, float32, int64 } from '../util/tensor.js';
import { Random } from '../util/random.js';
import { inferenceModel } from './model.js';
import { standardOps } from './standard.js';
import { withOpenAxes } from './symbolic.js';
import { writeModel } from './weights.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/clip/', import.meta.url));
const onnxFixtures = fileURLToPath(new URL('../../../../fixtures/onnx/', import.meta.url));
const [data, model] = [join(fixtures, 'pictures/data'), join(fixtures, 'pictures/model')];
const picture = (split: string, kind: string, n: number): string => join(data, split, kind, `${n}.png`);
const pictures = [
  picture('test', 'grün', 2), picture('test', 'red_square', 2), picture('train', 'Blue stripes', 0),
  picture('train', 'grün', 1), picture('train', 'red_square', 0),
];

let folder: string;
const runtime = nodeRuntime();
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-export-')); });
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true });
});

const trainedRun = async (method: string, backbone = model): Promise<string> => {
  const out = join(folder, `run-${method}-${basename(backbone)}`);
  if (existsSync(out)) return out;
  const recipe = { data, model: backbone, method, shots: 1, cache: false, out, seed: 3 };
  await (await train(recipe)).close();
  return out;
};

type Outputs = Record<string, Tensor>;
async function runModel(file: string, feeds: Record<string, Tensor>): Promise<Outputs> {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  try {
    const inputs = Object.entries(feeds).map(([name, { dtype, data: numbers, shape }]) =>
      [name, new ort.Tensor(dtype as 'float32', numbers as Float32Array, shape)] as const);
    const outputs = await session.run(Object.fromEntries(inputs));
    return Object.fromEntries(Object.entries(outputs).map(([name, { data: numbers, dims }]) =>
      [name, float32(dims, numbers as Float32Array)]));
  } finally {
    await session.release();
  }
}

const softmax = (logits: Float32Array): number[] => {
  const most = Math.max(...logits);
  const all = Array.from(logits, (z) => Math.exp(z - most));
  const sum = all.reduce((x, y) => x + y, 0);
  return all.map((x) => x / sum);
};

/** Class probabilities by the exported model, prepared as its own preprocessor_config.json says. */
async function byModel(exported: string, files: readonly string[], file = 'model.onnx'): Promise<number[][]> {
  const processor = await readImageProcessor(join(exported, 'preprocessor_config.json'));
  const size = 3 * processor.height * processor.width;
  const pixels = new Float32Array(files.length * size);
  for (const [i, path] of files.entries()) pixels.set(await processImage(path, processor), i * size);
  const pixel_values = float32([files.length, 3, processor.height, processor.width], pixels);
  const { logits } = await runModel(join(exported, file), { pixel_values });
  const classes = logits!.shape[1]!;
  return files.map((_, i) => softmax((logits!.data as Float32Array).subarray(i * classes, (i + 1) * classes)));
}

async function byRun(run: string, files: readonly string[]): Promise<number[][]> {
  const loaded = await loadRun(run);
  try {
    return (await loaded.predictImages(files)).map(({ classes }) =>
      loaded.classNames.map((_, k) => classes.find(({ index }) => index === k)!.probability));
  } finally {
    await loaded.close();
  }
}

/** Between the rows of `a` and as many of `c`. */
const distance = (a: readonly (readonly number[])[], c: readonly (readonly number[])[]): number =>
  Math.max(...a.flatMap((row, i) => row.map((x, j) => Math.abs(x - c[i]![j]!))));

describe.each([
  'zero-shot', 'linear-probe', 'tip-adapter', 'tip-adapter-f', 'clip-adapter', 'taskres', 'graph-adapter',
])('a run of %s', (method) => {
  test('predicts as ONNX what it predicts in Scion, for any number of pictures', async () => {
    const run = await trainedRun(method);
    const out = join(folder, `onnx-${method}`);
    expect((await exportRun(run, out, { to: 'onnx' })).files)
      .toEqual(['model.onnx', 'config.json', 'preprocessor_config.json']);
    const expected = await byRun(run, pictures);
    for (const count of [1, 2, 5]) {
      const some = pictures.slice(0, count);
      expect(distance(await byModel(out, some), expected)).toBeLessThan(1e-5);
    }
    // not because all pictures look alike
    expect(distance([expected[0]!], [expected[1]!])).toBeGreaterThan(1e-4);
    const { opsets, inputs, outputs } = decodeModel(await readFile(join(out, 'model.onnx')));
    expect(opsets).toEqual({ '': 21 });
    expect(inputs).toEqual([{ name: 'pixel_values', dtype: 'float32', shape: ['batch_size', 3, 16, 16] }]);
    expect(outputs).toEqual([{ name: 'logits', dtype: 'float32', shape: ['batch_size', 3] }]);
  });
});

test('the built-in model goes the same way', async () => {
  const run = await trainedRun('tip-adapter-f', 'picto');
  const out = join(folder, 'onnx-picto');
  await exportRun(run, out, { to: 'onnx' });
  expect(distance(await byModel(out, pictures), await byRun(run, pictures))).toBeLessThan(1e-4);
});

describe('weights', () => {
  test.each([['fp16', 2e-2, 0.55], ['int8', 0.1, 0.35], ['q8', 0.1, 0.35]] as const)(
    'as %s are smaller, with probabilities within %f', async (dtype, tolerance, share) => {
      const run = await trainedRun('graph-adapter', 'picto');
      const out = join(folder, `dtype-${dtype}`);
      const { files } = await exportRun(run, out, { to: 'onnx', dtypes: ['fp32', dtype] });
      const [whole, small] = [files[0]!, files[1]!];
      expect(small).toBe({ fp16: 'model_fp16.onnx', int8: 'model_int8.onnx', q8: 'model_quantized.onnx' }[dtype]);
      const bytes = async (file: string): Promise<number> => (await stat(join(out, file))).size;
      expect(await bytes(small) / await bytes(whole)).toBeLessThan(share);
      const [exact, rounded] = [await byModel(out, pictures), await byModel(out, pictures, small)];
      expect(distance(exact, rounded)).toBeLessThan(tolerance);
      expect(distance(exact, rounded)).toBeGreaterThan(0);
    });

  test('beyond the limit they stand in a file beside the model, which names it and nothing else', async () => {
    const run = await trainedRun('taskres');
    const out = join(folder, 'external');
    const { files } = await exportRun(run, out, { to: 'onnx', inlineLimit: 1000 });
    expect(files).toEqual(['model.onnx', 'model.onnx_data', 'config.json', 'preprocessor_config.json']);
    const { initializers } = decodeModel(await readFile(join(out, 'model.onnx')));
    const size = (await stat(join(out, 'model.onnx_data'))).size;
    expect(initializers.filter(({ data: place }) => 'location' in place).length).toBeGreaterThan(5);
    for (const { data: place } of initializers) {
      if (!('location' in place)) {
        expect(place.byteLength).toBeLessThan(1024);
        continue;
      }
      expect(place.location).toBe('model.onnx_data');
      expect(place.offset % 4096).toBe(0);
      expect(place.offset + place.byteLength).toBeLessThanOrEqual(size);
    }
    expect(distance(await byModel(out, pictures), await byRun(run, pictures))).toBeLessThan(1e-5);
  });
});

describe('every backbone of the fixtures', () => {
  test.each([
    'quick-gelu', 'gelu-half', 'openai-vit/model.safetensors', 'openai-resnet/model.safetensors',
  ])('%s gives its features, whatever the batch', async (name) => {
    const encoder = loadBackbone(await readCheckpoint(join(fixtures, name)));
    const size = encoder.imageSize;
    const built = await inferenceModel((graph, length) => ({
      features: encoder.imageFeatures(graph.input('pixel_values', 'float32', [length('batch'), 3, size, size])),
    }), [{ name: 'batch', input: 'pixel_values', axis: 0, sizes: [31, 37, 41] }], runtime, 'image');
    const file = join(folder, `${name.split('/')[0]!}.onnx`);
    await writeModel(built, file, 'fp32');
    expect(Object.keys(decodeModel(await readFile(file)).opsets)).toEqual(['']);
    for (const count of [1, 3]) {
      const random = Random.seeded(count);
      const pixel_values = float32([count, 3, size, size], Float32Array.from({ length: count * 3 * size * size },
        () => random.normal()));
      const { features } = await runModel(file, { pixel_values });
      const own = await runEncoder((graph) => encoder.imageFeatures(graph.input('x', 'float32', pixel_values.shape)),
        { x: pixel_values });
      expect(distance([[...features!.data as Float32Array]], [[...own.data as Float32Array]])).toBeLessThan(1e-4);
    }
  });
});

async function runEncoder(build: (graph: Graph) => ReturnType<Graph['input']>, feeds: Outputs): Promise<Tensor> {
  const session = await openProgram(runtime, compileInference((graph) => ({ out: build(graph) })), {});
  try {
    return (await session.run(feeds)).out!;
  } finally {
    await session.release();
  }
}

/** A folder with a model of fixtures/onnx and what goes with it. */
async function onnxFolder(name: string): Promise<string> {
  const made = join(folder, `onnx-${name}`);
  const filter = (from: string): boolean => name === 'clip' || !from.endsWith('/onnx');
  await cp(`${onnxFixtures}clip`, made, { recursive: true, filter });
  if (name !== 'clip') await cp(onnxFixtures + name, made, { recursive: true });
  return made;
}

describe('as a dual encoder', () => {
  test.each([
    ['zero-shot', 'clip', 'safetensors'], ['clip-adapter', 'clip', 'safetensors'], ['zero-shot', 'picto', 'built-in'],
    ['zero-shot', 'clip', 'onnx'], ['clip-adapter', 'clip-dynamo', 'onnx'], ['zero-shot', 'clip-joint', 'onnx'],
  ])(
    '%s on %s (%s) compares pictures with any words, as long as they are', async (method, name, kind) => {
      const backbone = kind === 'onnx' ? await onnxFolder(name) : name === 'clip' ? model : name;
      const run = await trainedRun(method, backbone);
      const out = join(folder, `dual-${method}-${name}-${kind}`);
      const { files } = await exportRun(run, out, { to: 'onnx', task: 'zero-shot-image-classification' });
      expect(files).toContain('tokenizer.json');
      const processor = await readImageProcessor(join(out, 'preprocessor_config.json'));
      const tokenizer = await readTokenizer(out);
      const { info: { pictures: { prompts } = { prompts: [] } } } = await loadRun(run);
      const { height, width } = processor;
      const expected = await byRun(run, pictures);
      const { inputs } = decodeModel(await readFile(join(out, 'model.onnx')));
      expect(Object.fromEntries(inputs.map(({ name: input, shape }) => [input, shape]))).toEqual({
        pixel_values: ['image_batch_size', 3, height, width], input_ids: ['text_batch_size', 'sequence_length'],
      });
      for (const [count, length] of [[1, 12], [5, 17], [2, 24]] as const) {
        const input_ids = tokenizer.encode(prompts.flat(), length);
        const pixels = await Promise.all(pictures.slice(0, count).map((path) => processImage(path, processor)));
        const pixel_values = float32([count, 3, height, width], pixels.flatMap((picture) => [...picture]));
        const { logits_per_image, logits_per_text } =
          await runModel(join(out, 'model.onnx'), { pixel_values, input_ids });
        expect([logits_per_image!.shape, logits_per_text!.shape]).toEqual([[count, 3], [3, count]]);
        const rows = Array.from({ length: count }, (_, i) =>
          softmax((logits_per_image!.data as Float32Array).subarray(3 * i, 3 * i + 3)));
        expect(distance(rows, expected)).toBeLessThan(1e-4);
      }
    });

  test('a method that is tied to its classes is refused by name, before anything is written', async () => {
    for (const method of ['taskres', 'graph-adapter', 'tip-adapter', 'linear-probe']) {
      const run = await trainedRun(method);
      await expect(exportRun(run, join(folder, 'tied'), { to: 'onnx', task: 'zero-shot-image-classification' }))
        .rejects.toThrow(`${method} is tied to the classes that it was trained on`);
    }
    expect(existsSync(join(folder, 'tied'))).toBe(false);
  });
});

describe('a text tower of ONNX that cannot be asked about texts of any length', () => {
  const pooled = (...before: NodeSpec[]): NodeSpec[] => [...before,
    { op: 'Cast', inputs: ['input_ids'], outputs: ['numbers'], attributes: { to: 1 } },
    { op: 'Mul', inputs: ['numbers', before.length > 0 ? 'weights' : 'one'], outputs: ['weighted'] },
    { op: 'ReduceMax', inputs: ['weighted', 'axes'], outputs: ['most'] },
    { op: 'MatMul', inputs: ['most', 'matrix'], outputs: ['text_embeds'] }];
  const backwards: NodeSpec[] = [
    { op: 'Shape', inputs: ['input_ids'], outputs: ['length'], attributes: { start: 1 } },
    { op: 'Squeeze', inputs: ['length'], outputs: ['end'] },
    { op: 'Range', inputs: ['end', 'zero', 'step'], outputs: ['places'] },
    { op: 'Cast', inputs: ['places'], outputs: ['weights'], attributes: { to: 1 } },
  ];
  test.each([
    ['one length alone', 24, pooled(), /takes texts of 24 tokens alone .*not int64\[2, 23\].*symbolic sequence axis/],
    ['a constant that follows no rule', 'length', pooled(...backwards),
      /cannot be exported with open axes: input \d of .* depends on the size in a way that no shape gives; export/],
  ])('%s', async (name, length, nodes, message) => {
    const backbone = await onnxFolder('clip');
    const changed = join(folder, name.replaceAll(' ', '-'));
    await cp(backbone, changed, { recursive: true });
    await writeFile(join(changed, 'onnx/text_model.onnx'), onnxModel({
      opset: 18, inputs: { input_ids: { dtype: 'int64', shape: ['batch', length] } }, nodes, outputs: ['text_embeds'],
      constants: {
        one: float32([], [1]), axes: int64([1], [1]), zero: int64([], [0]), step: int64([], [-1]),
        matrix: float32([1, 12], Array.from({ length: 12 }, (_, i) => i - 5)),
      },
    }));
    const run = await trainedRun('zero-shot', changed);
    const out = join(folder, `${name}-out`);
    const exported = exportRun(run, out, { to: 'onnx', task: 'zero-shot-image-classification' });
    await expect(exported).rejects.toThrow(message);
    await expect(exported).rejects.toMatchObject({ kind: 'input' });
    expect(existsSync(out)).toBe(false);
    // the same backbone and run, as the message says
    if (length === 24) await exportRun(run, out, { to: 'onnx' });
  });
});

describe('what is refused', () => {
  test('a folder with content, and names that are none', async () => {
    const run = await trainedRun('zero-shot');
    await mkdir(join(folder, 'full'));
    await writeFile(join(folder, 'full/mine.txt'), 'mine');
    await expect(exportRun(run, join(folder, 'full'), { to: 'onnx' }))
      .rejects.toThrow(/full has content already; choose/);
    expect(await readdir(join(folder, 'full'))).toEqual(['mine.txt']);
    await expect(exportRun(run, join(folder, 'x'), { to: 'onx' as 'onnx' })).rejects.toThrow(/did you mean onnx/);
    await expect(exportRun(run, join(folder, 'x'), { to: 'onnx', dtypes: ['fp8' as 'fp16'] }))
      .rejects.toThrow(/known: fp32/);
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a folder that cannot be made, by its own name', async () => {
    const run = await trainedRun('zero-shot');
    await writeFile(join(folder, 'file'), '');
    await expect(exportRun(run, join(folder, 'file/out'), { to: 'onnx' }))
      .rejects.toMatchObject({ name: 'ScionError' });
  });
});

describe('open axes', () => {
  const at = (build: (graph: Graph, n: number) => ReturnType<Graph['input']>): Parameters<typeof withOpenAxes> => {
    const models = [5, 7, 11].map((n) => {
      const graph = new Graph();
      graph.output('y', build(graph, n));
      return modelProto(standardOps(graph)).model;
    });
    return [models as never, [{ name: 'n', input: 'x', axis: 0, sizes: [5, 7, 11] }]];
  };

  test('a number that no shape gives is refused, not guessed', () => {
    const squares = [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100];
    expect(() => withOpenAxes(...at((graph, n) =>
      f.add(f.reduceSum(graph.input('x', 'int64', [n]), [0]), f.constant(graph, int64([], [n * n]))))))
      .toThrow(/no multiple of n/);
    expect(() => withOpenAxes(...at((graph, n) =>
      f.mul(graph.input('x', 'float32', [n]), f.constant(graph, float32([n], squares.slice(0, n)), 'w')))))
      .toThrow(/no shape gives/);
    expect(() => withOpenAxes(...at((graph, n) => (n === 7 ? f.neg : f.abs)(graph.input('x', 'float32', [n])))))
      .toThrow(/another op at another size/);
  });
});

describe('a length with a fixed number added', () => {
  /** Sums of x [b, n] with two columns of ones before, [b, n + 2], in rows of all that. */
  const build = (graph: Graph, size: (axis: string) => number): Record<string, Value> => {
    const [b, n] = [size('b'), size('n')];
    const x = graph.input('x', 'float32', [b, n]);
    const all = f.concat([f.full(graph, 'float32', [b, 2], 1), x], 1);
    const rows = f.reshape(f.mul(f.reshape(all, [b * (n + 2)]), 2), [n + 2, b]);
    return { y: f.slice(f.reshape(rows, [b, n + 2]), 1, 0, n + 1), z: f.reduceSum(all, [1]) };
  };
  const axes = [
    { name: 'b', input: 'x', axis: 0, sizes: [61, 67, 71] }, { name: 'n', input: 'x', axis: 1, sizes: [13, 19, 17] },
  ] as const;
  const all = { name: 'all', input: 'x', axis: 1, sizes: [15, 21, 19], plus: 2 } as const;

  test('is computed from the input', async () => {
    const file = join(folder, 'longer.onnx');
    await writeModel(await inferenceModel(build, [...axes, all], runtime, 'test'), file, 'fp32');
    for (const [b, n] of [[1, 3], [2, 1], [3, 0]] as const) {
      const numbers = Array.from({ length: b * n }, (_, i) => i + 5);
      const { y, z } = await runModel(file, { x: float32([b, n], numbers) });
      const row = (i: number): number[] => [1, 1, ...numbers.slice(i * n, (i + 1) * n)];
      expect(y!.shape).toEqual([b, n + 1]);
      expect([...y!.data]).toEqual(Array.from({ length: b }, (_, i) => row(i).slice(0, -1).map((v) => 2 * v)).flat());
      expect([...z!.data]).toEqual(Array.from({ length: b }, (_, i) => row(i).reduce((p, q) => p + q)));
    }
  });

  test('is refused in products unless it is named', async () => {
    await expect(inferenceModel(build, axes, runtime, 'test')).rejects.toThrow(/no multiple of b, n/);
  });
});

test('the preprocessing that is written reads as the one it came from', () => {
  for (const config of [{}, { size: { height: 30, width: 20 }, do_center_crop: false, resample: 2 },
    { do_resize: false, crop_size: 8, do_rescale: false, do_normalize: false }]) {
    const processor = parseImageProcessor(config);
    expect(parseImageProcessor(imageProcessorConfig(processor))).toEqual(processor);
  }
});
