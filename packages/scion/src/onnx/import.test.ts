import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vjp } from '../autodiff/grad.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { readOnnxModel } from '../hub/onnx-files.js';
import { Graph, type Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Tensors } from '../runtime/session.js';
import { type Tensor, float32, numel, toFloat64 } from '../util/tensor.js';
import type { ImportedModel, LayerCall } from './import.js';
import { imported, onnxModel, original, programOf, run } from './testing/model.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/onnx/', import.meta.url));
const runtime = nodeRuntime();
afterAll(() => runtime.close());

/** The largest difference, relative to values above 1. NaN and another shape fail. */
function expectClose(actual: Tensor | undefined, expected: Tensor | undefined, tolerance: number, what = ''): void {
  expect(actual!.shape, what).toEqual(expected!.shape);
  const [x, y] = [toFloat64(actual!), toFloat64(expected!)];
  x.forEach((v, i) => {
    const error = Math.abs(v - y[i]!) / Math.max(1, Math.abs(y[i]!));
    expect(error <= tolerance, `${what}[${i}] ${v} against ${y[i]}`).toBe(true);
  });
}

const clip: Record<string, Tensor> = {};
const conv: Record<string, Tensor> = {};
beforeAll(async () => {
  for (const [name, into] of [['clip', clip], ['convnet', conv]] as const) {
    for (const [key, t] of (await readSafetensors(`${fixtures}${name}.safetensors`)).tensors) into[key] = t;
  }
});

const layers = (tower: string): string[] => [
  ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((name) => `self_attn.${name}`), 'mlp.fc1', 'mlp.fc2',
].map((name) => `${tower}_model.encoder.layers.0.${name}`);

/** File, its inputs and outputs by the names of the reference values, tolerance against PyTorch, and its layers. */
const vision = { inputs: ['pixel_values'], outputs: { image_embeds: 'image_embeds', last_hidden_state: 'image_states' } };
const text = { inputs: ['input_ids'], outputs: { text_embeds: 'text_embeds', last_hidden_state: 'text_states' } };
const image = [...layers('vision'), 'visual_projection'];
const words = [...layers('text'), 'text_projection'];
const files: {
  file: string; inputs: readonly string[]; outputs: Readonly<Record<string, string>>; paths: readonly string[];
  /** Against PyTorch, and against ONNX Runtime's run of the file. */
  torch?: number; runtime?: number;
}[] = [
  { file: 'clip/onnx/vision_model.onnx', ...vision, paths: image },
  { file: 'clip/onnx/text_model.onnx', ...text, paths: words },
  { file: 'clip-dynamo/vision_model.onnx', ...vision, paths: image },
  { file: 'clip-dynamo/text_model.onnx', ...text, paths: words },
  // half precision is computed in float32 here, and rounds after every node there
  { file: 'clip/onnx/vision_model_fp16.onnx', ...vision, paths: image, torch: 2e-3, runtime: 2e-3 },
  { file: 'clip/onnx/text_model_fp16.onnx', ...text, paths: words, torch: 2e-3, runtime: 5e-3 },
  // blocks of 4 bits, unpacked to floats
  { file: 'clip/onnx/vision_model_q4.onnx', ...vision, paths: image, torch: 0.3 },
  { file: 'clip/onnx/text_model_q4.onnx', ...text, paths: words, torch: 0.6 },
  // whole numbers of 8 bits
  { file: 'clip/onnx/vision_model_quantized.onnx', ...vision, paths: [], torch: 0.05 },
  { file: 'clip/onnx/text_model_quantized.onnx', ...text, paths: [], torch: 0.1 },
  {
    file: 'clip-joint/model.onnx', inputs: ['pixel_values', 'input_ids', 'attention_mask'],
    outputs: { logits_per_image: 'logits_per_image' }, paths: [...image, ...words].map((path) => `clip.${path}`),
  },
];

describe('CLIP by both exporters of PyTorch', () => {
  test.each(files)('$file computes what PyTorch and ONNX Runtime compute', async (row) => {
    const { inputs, outputs, torch = 1e-5, runtime: bound = 1e-5 } = row;
    const path = fixtures + row.file;
    const feeds: Tensors = Object.fromEntries(inputs.map((name) => [name, name === 'attention_mask'
      ? { ...clip['input_ids']!, data: new BigInt64Array(numel(clip['input_ids']!.shape)).fill(1n) } : clip[name]!]));
    const model = await readOnnxModel(path);
    const actual = await run(runtime, programOf(model, feeds), feeds);
    const reference = await original(path, feeds);
    expect(Object.keys(actual).sort()).toEqual(Object.keys(reference).sort());
    for (const name of Object.keys(reference)) expectClose(actual[name], reference[name], bound, name);
    for (const [name, known] of Object.entries(outputs)) expectClose(actual[name], clip[known], torch, known);
  });

  test.each(files)('$file: every linear layer has the path of its module', async ({ file, paths }) => {
    const { linears } = await readOnnxModel(fixtures + file);
    expect([...linears.keys()].sort()).toEqual([...paths].sort());
    for (const [path, linear] of linears) {
      expect(linear).toMatchObject({
        path,
        inFeatures: path.endsWith('fc2') ? 32 : 16,
        outFeatures: path.endsWith('fc1') ? 32 : path.endsWith('projection') ? 12 : 16,
      });
      expect(linear.bias === undefined, path).toBe(path.endsWith('projection'));
    }
  });

  test('another batch size, from the same file', async () => {
    const model = await readOnnxModel(`${fixtures}clip/onnx/vision_model.onnx`);
    const { shape, data } = clip['pixel_values']!;
    for (const rows of [1, 2]) {
      const feeds = { pixel_values: float32([rows, ...shape.slice(1)], (data as Float32Array).slice(0, rows * numel(shape.slice(1)))) };
      const { image_embeds: actual } = await run(runtime, programOf(model, feeds, { outputs: ['image_embeds'] }), feeds);
      const whole = clip['image_embeds']!;
      expectClose(actual, float32([rows, 12], (whole.data as Float32Array).slice(0, rows * 12)), 1e-5);
    }
  });

  test('one tower of a file with both needs the inputs of that tower alone', async () => {
    const model = await readOnnxModel(`${fixtures}clip-joint/model.onnx`);
    const feeds = { pixel_values: clip['pixel_values']! };
    const graph = programOf(model, feeds, { outputs: ['image_embeds'] });
    expect(graph.nodes.some((n) => n.path.includes('text_model'))).toBe(false);
    const { image_embeds: actual } = await run(runtime, graph, feeds);
    expect(actual!.shape).toEqual([3, 12]);
    expect(model.scalar(/logit_scale$/)).toBeCloseTo(2.6592, 4);
  });

  test('two files with constants of the same names in one program', async () => {
    const models = await Promise.all(['clip/onnx/vision_model.onnx', 'clip-dynamo/vision_model.onnx']
      .map((name) => readOnnxModel(fixtures + name)));
    const graph = new Graph();
    const pixels = graph.input('pixel_values', 'float32', clip['pixel_values']!.shape);
    models.forEach((model, i) =>
      graph.output(`y${i}`, model.build(graph, { pixel_values: pixels }, { outputs: ['image_embeds'] })['image_embeds']!));
    const results = await run(runtime, graph, { pixel_values: clip['pixel_values']! });
    for (const name of ['y0', 'y1']) expectClose(results[name], clip['image_embeds'], 1e-5, name);
  });

  test('weights stay in their files, in the model itself or beside it', async () => {
    for (const [name, expected] of [['clip/onnx/vision_model.onnx', 'vision_model.onnx'],
      ['clip-dynamo/vision_model.onnx', 'vision_model.onnx.data']] as const) {
      const model = await readOnnxModel(fixtures + name);
      const graph = programOf(model, { pixel_values: clip['pixel_values']! });
      const places = graph.constants.flatMap((v) =>
        (v.source.kind === 'constant' && 'path' in v.source.data ? [v.source.data.path.split('/').at(-1)] : []));
      expect(places.length).toBeGreaterThan(2);
      expect(new Set(places)).toEqual(new Set([expected]));
    }
  });
});

describe('low-rank terms in imported layers', () => {
  const adapted = ['self_attn.q_proj', 'mlp.fc1'];
  const within = (path: string): string => path.replace('vision_model.encoder.layers.0.', '');

  /** x Wᵀ + b + x Aᵀ Bᵀ; the trained values are inputs of the program. */
  const low = (model: ImportedModel, graph: Graph, values: Map<string, Value>) =>
    ({ path: whole, x, output }: LayerCall): Value | undefined => {
    const path = within(whole);
    if (!adapted.includes(path)) return undefined;
    const linear = model.linears.get(whole)!;
    const of = (name: 'lora_A' | 'lora_B', shape: number[]): Value => {
      const value = graph.input(`${path}.${name}`, 'float32', shape, 'state');
      values.set(`${path}.${name}`, value);
      return value;
    };
    const [a, c] = [of('lora_A', [2, linear.inFeatures]), of('lora_B', [linear.outFeatures, 2])];
    return b.add(output(), b.fusedMatMul(b.fusedMatMul(x, a, { transB: 1 }), c, { transB: 1 }));
  };

  async function gradientsOf(file: string, zero = false): Promise<Tensors> {
    const model = await readOnnxModel(fixtures + file);
    const graph = new Graph();
    const values = new Map<string, Value>();
    const pixels = graph.input('pixel_values', 'float32', clip['pixel_values']!.shape);
    values.set('pixel_values', pixels);
    const y = model.build(graph, { pixel_values: pixels },
      { outputs: ['image_embeds'], replace: low(model, graph, values) })['image_embeds']!;
    graph.output('y', y);
    const cotangent = graph.input('cotangent', 'float32', y.shape);
    vjp(y, cotangent, [...values.values()]).forEach((g, i) => graph.output(`grad.${[...values.keys()][i]}`, g));
    const feeds = Object.fromEntries(graph.inputs.map((v) => {
      const name = v.source.kind === 'input' ? v.source.name : '';
      const t = clip[name]!;
      return [name, zero && name.endsWith('lora_B') ? float32(t.shape, new Float32Array(numel(t.shape))) : t];
    }));
    return run(runtime, graph, feeds);
  }

  test.each(['clip/onnx/vision_model.onnx', 'clip-dynamo/vision_model.onnx'])(
    '%s: values and gradients are those of PyTorch', async (file) => {
      const results = await gradientsOf(file);
      expectClose(results['y'], clip['lora_image_embeds'], 1e-5, 'y');
      const names = ['pixel_values', ...adapted.flatMap((path) => [`${path}.lora_A`, `${path}.lora_B`])];
      for (const name of names) expectClose(results[`grad.${name}`], clip[`grad.${name}`], 1e-5, name);
    });

  test('with B = 0 nothing changes, and B alone has a gradient', async () => {
    const results = await gradientsOf('clip/onnx/vision_model.onnx', true);
    expectClose(results['y'], clip['image_embeds'], 1e-5);
    expect((results['grad.mlp.fc1.lora_A']!.data as Float32Array).every((v) => v === 0)).toBe(true);
    expect((results['grad.mlp.fc1.lora_B']!.data as Float32Array).some((v) => Math.abs(v) > 1e-4)).toBe(true);
  });

  test.each(['clip/onnx/vision_model.onnx', 'clip-dynamo/vision_model.onnx'])(
    '%s: every linear layer and normalisation is offered once, with what it computes', async (file) => {
      const model = await readOnnxModel(fixtures + file);
      const feeds = { pixel_values: clip['pixel_values']! };
      const seen: string[] = [];
      const graph = programOf(model, feeds, { outputs: ['image_embeds'], replace: ({ path, x, output }) => {
        seen.push(path);
        expect(x.shape.at(-1)).toBe((model.linears.get(path)?.inFeatures ?? model.norms.get(path)!.features));
        return output();
      } });
      const norms = ['pre_layrnorm', 'encoder.layers.0.layer_norm1', 'encoder.layers.0.layer_norm2', 'post_layernorm'];
      expect([...model.norms.keys()]).toEqual(norms.map((name) => `vision_model.${name}`));
      expect(seen.sort()).toEqual([...model.linears.keys(), ...model.norms.keys()].sort());
      expectClose((await run(runtime, graph, feeds))['image_embeds'], clip['image_embeds'], 1e-5);
    });

  test('of 4-bit weights: gradients pass', async () => {
    const results = await gradientsOf('clip/onnx/vision_model_q4.onnx');
    for (const path of adapted) {
      expect((results[`grad.${path}.lora_A`]!.data as Float32Array).some((v) => Math.abs(v) > 1e-4)).toBe(true);
    }
    // near those of the model that was quantised
    const [actual, expected] = ['grad.mlp.fc1.lora_B', 'grad.mlp.fc1.lora_B'].map((name, i) =>
      toFloat64((i === 0 ? results : clip)[name]!));
    const cosine = (x: Float64Array, y: Float64Array): number => x.reduce((s, v, i) => s + v * y[i]!, 0);
    expect(cosine(actual!, expected!) / Math.sqrt(cosine(actual!, actual!) * cosine(expected!, expected!))).toBeGreaterThan(0.8);
  });

  test('a replacement of another shape is refused', async () => {
    const model = await readOnnxModel(`${fixtures}clip/onnx/vision_model.onnx`);
    expect(() => programOf(model, { pixel_values: clip['pixel_values']! }, { replace: ({ path, x }) => (path.endsWith('q_proj') ? b.slice(x, 1, 0, 1) : undefined) }))
      .toThrow(/the replacement of vision_model\.encoder\.layers\.0\.self_attn\.q_proj has shape \[3, 1, 16\], expected \[3, 5, 16\]/);
  });

  test('a gradient that would have to pass rounding is refused, and none else', async () => {
    const model = await readOnnxModel(`${fixtures}clip/onnx/vision_model_quantized.onnx`);
    const graph = new Graph();
    const pixels = graph.input('pixel_values', 'float32', clip['pixel_values']!.shape);
    const y = model.build(graph, { pixel_values: pixels }, { outputs: ['image_embeds'] })['image_embeds']!;
    const scale = graph.input('scale', 'float32', [12]);
    const scaled = b.mul(y, scale);
    const cotangent = graph.input('cotangent', 'float32', y.shape);
    expect(vjp(scaled, cotangent, [scale])[0]!.shape).toEqual([12]);
    expect(() => vjp(scaled, cotangent, [pixels])).toThrow(/no gradient passes DynamicQuantizeLinear at vision_model\.post_layernorm/);
  });
});

describe('a convolutional network by both exporters, in several op sets', () => {
  test.each(['torchscript-11', 'torchscript-13', 'torchscript-18', 'dynamo'])(
    '%s: values and gradients are those of PyTorch', async (name) => {
      const path = `${fixtures}convnet/${name}.onnx`;
      const model = await readOnnxModel(path);
      const graph = new Graph();
      const x = graph.input('x', 'float32', conv['x']!.shape);
      const y = model.build(graph, { x })['y']!;
      graph.output('y', y);
      graph.output('grad.x', vjp(y, graph.input('cotangent', 'float32', y.shape), [x])[0]!);
      const results = await run(runtime, graph, { x: conv['x']!, cotangent: conv['cotangent']! });
      expectClose(results['y'], (await original(path, { x: conv['x']! }))['y'], 1e-5, 'y');
      expectClose(results['y'], conv['y'], 1e-5, 'y');
      expectClose(results['grad.x'], conv['grad.x'], 1e-5, 'grad.x');
      expect([...model.linears.values()]).toMatchObject([{ path: 'head', inFeatures: 64, outFeatures: 7 }]);
    });
});

describe('what cannot be built is refused by name', () => {
  const x = { x: { dtype: 'float32', shape: ['batch', 3] } } as const;
  const feed = (...shape: number[]): Tensors => ({ x: float32(shape, new Float32Array(numel(shape))) });
  const build = (model: Uint8Array, feeds: Tensors = feed(2, 3), outputs?: string[]): Graph =>
    programOf(imported(model, 'm.onnx'), feeds, outputs ? { outputs } : {});

  test.each([
    [{ op: 'If', name: '/a/If', inputs: ['x'] }, /m\.onnx: node "\/a\/If" is an If, which chooses or repeats a part/],
    [{ op: 'LSTM', inputs: ['x'] }, /node "LSTM" is an LSTM, which is recurrent/],
    [{ op: 'Einsam', name: '', inputs: ['x'] }, /node "y" is an Einsam, an op that Scion does not read/],
    [{ op: 'QMoE', domain: 'com.microsoft', inputs: ['x'] }, /node "QMoE" is com\.microsoft::QMoE, an op that/],
    [{ op: 'toString', inputs: ['x'] }, /is a toString, an op/],
    [{ op: 'Reshape', inputs: ['x', 'x'] }, /node "Reshape" \(Reshape\): computes its shape from the data/],
    [{ op: 'Softmax', inputs: ['x'], attributes: { axis: 2 } }, /node "Softmax" \(Softmax\): has axis 2 for an input of rank 2/],
    [{ op: 'Softmax', inputs: ['x'], attributes: { axis: 'last' } }, /has an attribute axis of another kind/],
    [{ op: 'Add', inputs: ['x'] }, /node "Add" \(Add\): has no input 1/],
    [{ op: 'MatMul', inputs: ['x', 'x'] }, /node "MatMul" \(MatMul\): MatMul\(float32\[2, 3\], float32\[2, 3\]\): .*3 against 2/],
  ] as const)('%j', (node, message) => {
    const model = onnxModel({ opset: 18, inputs: x, nodes: [node] });
    expect(() => build(model)).toThrow(message);
    expect(() => build(model)).not.toThrow('defect in Scion');
  });

  test('all unknown kinds at once, with how many there are', () => {
    const model = onnxModel({ opset: 18, inputs: x, nodes: [
      { op: 'A', inputs: ['x'], outputs: ['a'] }, { op: 'A', inputs: ['a'], outputs: ['c'] }, { op: 'B', inputs: ['c'] }] });
    expect(() => build(model)).toThrow(/node "A" is an A, .* \(and 1 more\)\n.*node "B" is a B/);
  });

  test('unknown ops that the outputs do not need are no matter', () => {
    const model = onnxModel({ opset: 18, inputs: x, outputs: ['y', 'z'], nodes: [
      { op: 'Loop', inputs: ['x'], outputs: ['z'] }, { op: 'Relu', inputs: ['x'] }] });
    expect(build(model, feed(2, 3), ['y']).outputs.size).toBe(1);
    expect(() => build(model)).toThrow('is a Loop');
  });

  test.each([
    [{}, undefined, /m\.onnx: needs its input "x", float32\[batch, 3\]/],
    [feed(2, 4), undefined, /takes "x" as float32\[batch, 3\] \(batch 2\), not float32\[2, 4\]/],
    [feed(3), undefined, /takes "x" as float32\[batch, 3\], not float32\[3\]/],
    [{ x: { dtype: 'int64', shape: [1, 3], data: new BigInt64Array(3) } }, undefined, /not int64\[1, 3\]/],
    [feed(2, 3), ['z'], /has no output "z"; it has y/],
  ] as [Tensors, string[] | undefined, RegExp][])('feeds %#', (feeds, outputs, message) => {
    const model = onnxModel({ opset: 18, inputs: x, nodes: [{ op: 'Relu', inputs: ['x'] }] });
    expect(() => build(model, feeds, outputs)).toThrow(message);
  });

  test('a graph for one picture at a time says how to export it', () => {
    const model = onnxModel({ opset: 18, inputs: { x: { dtype: 'float32', shape: [1, 3] } }, nodes: [{ op: 'Relu', inputs: ['x'] }] });
    expect(() => build(model)).toThrow(/takes "x" as float32\[1, 3\], not float32\[2, 3\]; export it with a symbolic batch axis/);
  });

  test('axes of one name have one size', () => {
    const model = onnxModel({ opset: 18, inputs: { ...x, z: x.x }, nodes: [{ op: 'Add', inputs: ['x', 'z'] }] });
    expect(() => build(model, { ...feed(2, 3), z: feed(4, 3)['x']! })).toThrow(/takes "z" as .*\(batch 2\), not float32\[4, 3\]/);
  });

  test.each([[6], [25], [1000]])('op set %i', (opset) => {
    const model = onnxModel({ opset, inputs: x, nodes: [{ op: 'Relu', inputs: ['x'] }] });
    expect(() => build(model)).toThrow(`m.onnx: is of opset ${opset}, expected 7 to 24; export it with opset_version=18`);
  });
});

test('a model in memory, with all constants there', async () => {
  const bytes = new Uint8Array(await readFile(`${fixtures}clip/onnx/vision_model.onnx`));
  const feeds = { pixel_values: clip['pixel_values']! };
  const results = await run(runtime, programOf(imported(bytes), feeds), feeds);
  expectClose(results['image_embeds'], clip['image_embeds'], 1e-5);
});
