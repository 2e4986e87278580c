/** LoRA and bottleneck adapters on encoders of texts, trained on masked words. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../src/formats/files.js';
import { readSafetensors, writeSafetensors } from '../src/formats/safetensors-node.js';
import { readCheckpoint } from '../src/hub/checkpoint.js';
import type { Graph, Value } from '../src/ir/graph.js';
import { expected, fixtures, testRuntime } from '../src/models/testing/reference.js';
import { loadTextModel } from '../src/models/text-models.js';
import { maskedLanguageLoss } from '../src/models/text.js';
import type { BertEncoder } from '../src/models/bert/index.js';
import { readParameter } from '../src/nn/parameter-values.js';
import { adapter } from '../src/peft/adapter/index.js';
import type { BackboneMethod } from '../src/peft/backbone-method.js';
import { lora } from '../src/peft/lora/index.js';
import { baseName, mergedWeights } from '../src/peft/merge.js';
import { compute, descend, distance, initialValues } from '../src/peft/testing/adapted.js';
import type { Tensors } from '../src/runtime/session.js';
import type { Tensor } from '../src/util/tensor.js';

const runtime = testRuntime();
let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'scion-text-adapters-')); });
afterAll(() => rm(folder, { recursive: true }));

const load = async (name: string): Promise<BertEncoder> =>
  loadTextModel(await readCheckpoint(fixtures + name)) as BertEncoder;

async function attached(name: string, method: BackboneMethod, config: object): Promise<BertEncoder> {
  const model = await load(name);
  await method.attach(model, method.config.parse(config), { read: readParameter });
  return model;
}

const methods: readonly [string, BackboneMethod, object, { merges: boolean; lr: number }][] = [
  ['lora on query and value', lora, { r: 4, lora_alpha: 8, target_modules: 'query,value' }, { merges: true, lr: 0.5 }],
  ['adapter as Houlsby', adapter, { bottleneck_dim: 6 }, { merges: false, lr: 0.1 }],
];

describe.each(['roberta/masked-lm', 'bert/masked-lm'])('%s', (name) => {
  let feeds: Tensors;
  let base: Tensors;
  const built = (model: BertEncoder) => (graph: Graph): { loss: Value; last: Value } => {
    const feed = (key: string): Value => graph.input(key, feeds[key]!.dtype, feeds[key]!.shape);
    const { last } = model.encode(model.embed(feed('ids')), feed('mask'));
    return { last, loss: maskedLanguageLoss(model, last, { rows: feed('rows'), labels: feed('labels') }) };
  };
  const outputs = (model: BertEncoder, values: Tensors = {}): Promise<Tensors> =>
    compute(runtime, built(model), feeds, values);
  const apart = (a: Tensors, b: Tensors): number => Math.max(...['loss', 'last'].map((key) => distance(a[key]!, b[key]!)));
  beforeAll(async () => {
    const want = await expected(name);
    feeds = Object.fromEntries(['ids', 'mask', 'rows', 'labels'].map((key) => [key, want(key)]));
    base = await outputs(await load(name));
  });

  test.each(methods)('%s', async (_, method, config, { merges, lr }) => {
    const file = `${fixtures}${name}/model.safetensors`;
    const before = await sha256(file);
    const model = await attached(name, method, config);
    const start = initialValues(model);
    const { losses, values } = await descend(runtime, (graph) => built(model)(graph).loss, feeds, start, { steps: 20, lr });

    // it starts from the frozen model, whose loss stays where it is, and gets below that
    const control = Number(base['loss']!.data[0]);
    expect(losses[0]).toBeCloseTo(control, 5);
    const trained = await outputs(model, values);
    expect(Number(trained['loss']!.data[0])).toBeLessThan(0.9 * control);
    expect(apart(await outputs(await load(name)), base)).toBe(0);

    // only the adapter's own values change, all of them; the rest is what the file holds, which is not written
    const plain = new Map((await load(name)).parameters());
    const own = [...model.parameters()].filter(([path]) => !plain.has(baseName(path))).map(([path]) => path);
    expect(Object.keys(values).sort()).toEqual(own.sort());
    for (const path of own) expect(distance(values[path]!, start[path]!), path).toBeGreaterThan(0);
    for (const [path, parameter] of model.parameters()) {
      if (!own.includes(path)) expect(parameter.origin, path).toEqual(plain.get(baseName(path))!.origin);
    }
    expect(await sha256(file)).toBe(before);

    // stored, read back and frozen in a fresh tree
    const stored = join(folder, 'values.safetensors');
    await writeSafetensors(stored, values);
    const restored = Object.fromEntries<Tensor>((await readSafetensors(stored)).tensors);
    expect(await outputs(model, restored)).toEqual(trained);
    const fresh = (await attached(name, method, config)).freeze(restored);
    expect(apart(await outputs(fresh), trained)).toBeLessThan(1e-5);

    const merging = mergedWeights(model, { read: readParameter }, (path) => values[path]!);
    if (!merges) return expect(merging).rejects.toThrow(/cannot be merged: they are no change of weights/);
    const merged = await merging;
    expect([...merged.keys()].every((path) => /attention\.self\.(query|value)\.weight$/.test(path))).toBe(true);
    expect(apart(await outputs((await load(name)).fix(merged)), trained)).toBeLessThan(1e-5);
  });
});
