/** Every method that adapts a backbone, on every kind of backbone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../src/formats/files.js';
import { readSafetensors, writeSafetensors } from '../src/formats/safetensors-node.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import { testRuntime } from '../src/models/testing/reference.js';
import { dropoutInputs } from '../src/nn/dropout.js';
import { baseName, mergedWeights } from '../src/peft/merge.js';
import { inputsOf, loadModel, modelCases } from '../src/peft/testing/models.js';
import { rows } from '../src/peft/testing/rows.js';
import { attach, context, outputs, train, withWeights } from '../src/peft/testing/trial.js';
import type { Tensors } from '../src/runtime/session.js';
import { ScionError } from '../src/util/errors.js';
import type { Tensor } from '../src/util/tensor.js';

const runtime = testRuntime();
let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-methods-')); });
afterAll(() => rm(folder, { recursive: true }));

/** The largest difference over the largest value. */
function distance(a: Tensor | undefined, b: Tensor | undefined): number {
  expect(a?.shape).toEqual(b?.shape);
  const [x, y] = [a!.data as Float32Array, b!.data as Float32Array];
  const scale = y.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return x.reduce((m, v, i) => Math.max(m, Number.isNaN(v) ? Infinity : Math.abs(v - y[i]!)), 0) / scale;
}
/** Over the features of both towers. */
const apart = (a: Tensors, b: Tensors): number =>
  Math.max(...['image', 'text'].filter((name) => name in b).map((name) => distance(a[name], b[name])));
const lossOf = (tensors: Tensors): number => (tensors['loss']!.data as Float32Array)[0]!;

describe.each(modelCases.map((model) => [model.name, model] as const))('%s', (_, which) => {
  let inputs: Tensors;
  let base: Tensors;
  let files: Record<string, string>;
  const digests = async (): Promise<Record<string, string>> => {
    const { tensors } = await readCheckpoint(which.folder);
    const paths = [...new Set([...tensors.values()].map(({ path }) => path))];
    return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await sha256(path)] as const)));
  };
  beforeAll(async () => {
    const model = await loadModel(which);
    inputs = await inputsOf(which, model);
    base = (await outputs(runtime, model, inputs))[0]!;
    files = await digests();
  });
  afterAll(async () => expect(await digests()).toEqual(files));

  test.each(Object.entries(rows))('%s', async (_name, row) => {
    const { method, lr, merges } = row;
    const config = row.config(which);
    const refusal = row.refuses(which);
    if (refusal) {
      const failure = await attach(which, method, config).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ScionError);
      expect((failure as ScionError).kind).toBe('usage');
      expect((failure as ScionError).message).toMatch(refusal);
      return;
    }
    const { model, trained } = await attach(which, method, config);
    const { program, start, second, end, losses } = await train(runtime, model, inputs, { steps: 15, lr });

    // only what the method trains is updated, and all of it is used; the rest lies where it lay
    expect(Object.keys(start).sort()).toEqual([...trained].sort());
    expect(Object.values(program.carry).filter((n) => trained.includes(n)).sort()).toEqual([...trained].sort());
    const plain = new Map((await loadModel(which)).parameters());
    for (const [own, p] of model.parameters()) {
      if (!trained.includes(own)) expect(p.origin, own).toEqual(plain.get(baseName(own))!.origin);
    }

    // stored and read back
    const file = join(folder, 'values.safetensors');
    await writeSafetensors(file, end);
    const values = Object.fromEntries<Tensor>((await readSafetensors(file)).tensors);

    // it starts from the model, a step changes the output, and what was stored gives the same numbers
    const [atStart, atSecond, atEnd, restored] =
      await outputs(runtime, model, inputs, [start, second, end, values]) as [Tensors, Tensors, Tensors, Tensors];
    if (row.startsAsBase) expect(apart(atStart, base)).toBeLessThan(2e-6);
    expect(apart(atSecond, atStart)).toBeGreaterThan(1e-5);
    expect(restored).toEqual(atEnd);

    // against the loss with everything frozen, which is that of the model as it was
    const control = lossOf(base);
    if (row.startsAsBase && program.step.inputs.every(({ source }) => source.kind !== 'input' || source.name !== dropoutInputs.seed)) {
      expect(losses[0]).toBeCloseTo(control, 4);
    }
    expect(lossOf(atEnd)).toBeLessThan(0.9 * control);

    // frozen in a fresh tree, as a run is opened for prediction
    const fresh = (await attach(which, method, config)).model.freeze(values);
    expect(apart((await outputs(runtime, fresh, inputs))[0]!, atEnd)).toBeLessThan(2e-6);

    const merging = mergedWeights(model, context, (n) => end[n] as Tensor<'float32'>);
    if (!merges) {
      await expect(merging).rejects.toThrow(/cannot be merged: they are no change of weights/);
      return;
    }
    const merged = await outputs(runtime, await withWeights(which, await merging), inputs);
    expect(apart(merged[0]!, atEnd)).toBeLessThan(1e-5);
  });
});
