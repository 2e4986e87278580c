import { afterAll, describe, expect, test } from 'vitest';
import type { Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import { type ModelCase, inputsOf, loadModel, modelCases } from '../peft/testing/models.js';
import { nodeRuntime } from '../runtime/node.js';
import { compileInference } from '../trainer/compile.js';
import { openProgram } from '../trainer/program.js';
import { type Model } from '../peft/testing/models.js';
import type { Tensor } from '../util/tensor.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

async function run(which: ModelCase, model: Model, build: (images: Value) => Record<string, Value>): Promise<Record<string, Tensor>> {
  const { images } = await inputsOf(which, model);
  const program = compileInference((graph) => build(graph.input('images', 'float32', images!.shape)));
  const session = await openProgram(runtime, program, {}, { threads: 1 });
  try {
    return await session.run({ images: images! });
  } finally {
    await session.release();
  }
}

describe('last states of image towers', () => {
  for (const which of modelCases) {
    if (which.name === 'clip/openai-resnet') continue;
    test(`${which.name}: one state for the picture, and one for each of its parts`, async () => {
      const model = await loadModel(which);
      const { pooled, patches } = await run(which, model, (images) => {
        const states = model.imageStates!(images)!;
        return { pooled: states.pooled, patches: states.patches };
      });
      const [batch, width] = pooled!.shape as [number, number];
      expect(patches!.shape.slice(1)).toEqual([batch, width]);
      const parts = patches!.shape[0]!;
      expect(Math.sqrt(parts) % 1, 'parts of a square picture').toBe(0);
      // each part is another, and none is the state of the whole
      const rows = new Set(Array.from({ length: parts }, (_, i) =>
        (patches!.data as Float32Array).slice(i * batch * width, i * batch * width + 4).join()));
      rows.add((pooled!.data as Float32Array).slice(0, 4).join());
      expect(rows.size).toBe(parts + 1);
    });
  }

  test('the feature of a picture is the projected state', async () => {
    const which = modelCases.find(({ name }) => name === 'vit/model')!;
    const model = await loadModel(which);
    const { pooled, features } = await run(which, model, (images) =>
      ({ pooled: f.identity(model.imageStates!(images)!.pooled), features: model.imageFeatures(images) }));
    expect(pooled!.data).toEqual(features!.data);
  });

  test('a ResNet has none', async () => {
    const which = modelCases.find(({ name }) => name === 'clip/openai-resnet')!;
    const model = await loadModel(which);
    await run(which, model, (images) => {
      expect(model.imageStates!(images)).toBe(undefined);
      return { features: model.imageFeatures(images) };
    });
  });
});
