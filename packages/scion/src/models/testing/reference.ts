/** Models against what PyTorch computed: reading the reference, running a program, comparing. */
import { fileURLToPath } from 'node:url';
import { afterAll, expect } from 'vitest';
import { readSafetensors } from '../../formats/safetensors-node.js';
import type { Graph, Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { nodeRuntime } from '../../runtime/node.js';
import type { Runtime, Tensors } from '../../runtime/session.js';
import { compileInference } from '../../trainer/compile.js';
import { openProgram } from '../../trainer/program.js';
import { type Tensor, toFloat64 } from '../../util/tensor.js';

export const fixtures = fileURLToPath(new URL('../../../../../fixtures/', import.meta.url));

/** A runtime that ends with the test file. */
export function testRuntime(): Runtime {
  const runtime = nodeRuntime();
  afterAll(() => runtime.close());
  return runtime;
}

/** The tensors of `expected.safetensors`, or another such file, in a folder of the fixtures, by name. */
export async function expected(folder: string, file = 'expected'): Promise<(tensor: string) => Tensor> {
  const { tensors } = await readSafetensors(`${fixtures}${folder}/${file}.safetensors`);
  return (tensor) => {
    const found = tensors.get(tensor);
    if (!found) throw new Error(`${folder} has no ${tensor}`);
    return found;
  };
}

/** The compiled program's outputs. */
export async function run(
  runtime: Runtime, build: (graph: Graph) => Record<string, Value>, feeds: Tensors,
): Promise<Tensors> {
  const session = await openProgram(runtime, compileInference(build), {});
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

/** Absolute, or relative to the largest value where that is above 1. */
export function expectClose(actual: Tensor | undefined, wanted: Tensor, what: string, tolerance = 1e-4): void {
  expect(actual!.shape, what).toEqual(wanted.shape);
  const [a, w] = [toFloat64(actual!), toFloat64(wanted)];
  const scale = Math.max(1, ...w.map(Math.abs));
  const worst = a.reduce((m, v, i) => Math.max(m, Number.isNaN(v) ? Infinity : Math.abs(v - w[i]!)), 0);
  expect(worst, what).toBeLessThan(tolerance * scale);
  expect(Math.max(...w.map(Math.abs)), `${what} is not all zero`).toBeGreaterThan(0.01);
}

/** States [tokens, B, width] as transformers has them, [B, tokens, width], under `prefix.<number>`. */
export const batchFirst = (states: readonly Value[], prefix: string): Record<string, Value> =>
  Object.fromEntries(states.map((s, i) => [`${prefix}.${i}`, f.transpose(s, [1, 0, 2])]));
