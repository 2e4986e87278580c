import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { readSafetensors } from '../formats/safetensors-node.js';
import { Graph, type Value } from '../ir/graph.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Tensor } from '../util/tensor.js';
import { decodeModel } from './decode.js';
import { encodeModel } from './encode.js';
import { ImportedModel } from './import.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/onnx/', import.meta.url));
const runtime = nodeRuntime();
afterAll(() => runtime.close());

test.each(['clip/onnx/vision_model.onnx', 'clip/onnx/vision_model_fp16.onnx', 'clip/onnx/vision_model_quantized.onnx','clip/onnx/text_model.onnx', 'clip/onnx/text_model_quantized.onnx','clip-dynamo/text_model.onnx','clip-dynamo/vision_model.onnx','convnet/torchscript-11.onnx','convnet/torchscript-13.onnx','convnet/torchscript-18.onnx','convnet/dynamo.onnx','clip-joint/model.onnx'])('%s', async (name) => {
  const path = fixtures + name;
  const model = new ImportedModel(decodeModel(new Uint8Array(await readFile(path)), path, { inPlaceAbove: 64 }), { path, file: path, external: new Map([['vision_model.onnx.data', `${path}.data`]]) });
  console.log(name, [...model.linears.keys()].join(' '));
  const { tensors: expected } = await readSafetensors(fixtures + (name.startsWith('clip') ? 'clip' : 'convnet') + '.safetensors');
  const graph = new Graph();
  const feeds = Object.fromEntries([...model.inputs.keys()].map((k) => [k, expected.get(k === 'attention_mask' ? 'input_ids' : k)!]));
  if (feeds.attention_mask) feeds.attention_mask = { ...feeds.attention_mask, data: new BigInt64Array(48).fill(1n) } as Tensor;
  const values = Object.fromEntries(Object.entries(feeds).map(([k, t]): [string, Value] => [k, graph.input(k, t.dtype, t.shape)]));
  const out = model.build(graph, values);
  for (const [k, v] of Object.entries(out)) graph.output(k, v);
  const session = await runtime.load(encodeModel(graph));
  const got = await session.run(feeds);
  await session.release();
  const original = await ort.InferenceSession.create(path);
  const ref = await original.run(Object.fromEntries(Object.entries(feeds).map(([k, t]) => [k, new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.shape)])));
  for (const k of Object.keys(out)) {
    expect(got[k]!.shape, k).toEqual(ref[k]!.dims);
    const [a, c] = [got[k]!.data as Float32Array, ref[k]!.data as Float32Array];
    const worst = a.reduce((m, v, i) => Math.max(m, Math.abs(v - c[i]!)), 0);
    console.log(name, k, worst);
  }
});
