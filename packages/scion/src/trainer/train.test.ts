/** What the values of a training do, seen from the run that comes of them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyContent, tinyFile } from '../../test/support/features.js';
import { writeFeatureFile } from '../data/feature-file.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { nodeRuntime } from '../runtime/node.js';
import { float32 } from '../util/tensor.js';
import { fit } from './fit.js';
import { train } from './train.js';
import { featureMethod } from '../peft/testing/inputs.js';
import { Random } from '../util/random.js';
import { resolveRecipe } from './recipe.js';

let folder: string;
let features: string;
let runs = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scion-train-'));
  features = await tinyFile(folder, 'tiny', { train: [12, 6, 9], noise: 1.2 });
});
afterAll(() => rm(folder, { recursive: true }));

interface Line {
  type: 'step' | 'epoch';
  step: number;
  epoch: number;
  loss: number;
  lr: number;
  val_accuracy: number;
  val_loss: number;
}
type Values = NonNullable<Parameters<typeof train>[0]['training']>;

async function trained(training: Values, rest: object = {}) {
  const out = join(folder, `run ${runs++}`);
  const given = { epochs: 6, batch_size: 5, ...training };
  const run = await train({ features, method: 'taskres', shots: 4, threads: 1, training: given, ...rest, out });
  await run.close();
  const { info } = run;
  const lines = (await readFile(join(out, 'metrics.jsonl'), 'utf8'))
    .trimEnd()
    .split('\n')
    .filter(Boolean)
    .map((l) => JSON.parse(l) as Line);
  return {
    info,
    result: info.result!,
    adapter: await readFile(join(out, 'adapter.safetensors')),
    out,
    steps: lines.filter((l) => l.type === 'step'),
    epochs: lines.filter((l) => l.type === 'epoch'),
  };
}

test('learning lowers the loss by a clear margin, standing still does not', async () => {
  const still = { epochs: 40, batch_size: 256, schedule: 'constant' } as const;
  const drops = [];
  for (const lr of [0.05, 1e-12]) {
    const { epochs } = await trained({ ...still, lr }, { validation: 'none' });
    drops.push((epochs[0]!.loss - epochs.at(-1)!.loss) / epochs[0]!.loss);
  }
  expect(drops[0]).toBeGreaterThan(0.3);
  expect(Math.abs(drops[1]!)).toBeLessThan(1e-4);
});

test('schedules: the learning rate of every step', async () => {
  // 12 rows in batches of 5 are 3 steps an epoch, 18 in all, 3 of them warm-up
  const rates = async (schedule: 'constant' | 'linear' | 'cosine'): Promise<number[]> =>
    (await trained({ lr: 0.1, warmup_epochs: 1, schedule })).steps.map((l) => l.lr);
  const [constant, linear, cosine] = [await rates('constant'), await rates('linear'), await rates('cosine')];
  for (const r of [constant, linear, cosine]) {
    expect(r).toHaveLength(18);
    expect(r[0]).toBeLessThan(r[1]!);
    expect(r[1]).toBeLessThan(r[2]!);
    expect(r[2]).toBeLessThanOrEqual(0.1);
  }
  expect(new Set(constant.slice(3))).toEqual(new Set([0.1]));
  const fall = (r: number[]): number[] => r.slice(4).map((v, i) => r[i + 3]! - v);
  expect(Math.max(...fall(linear)) - Math.min(...fall(linear))).toBeLessThan(1e-9);
  expect(fall(cosine).every((d) => d > 0)).toBe(true);
  expect(fall(cosine)[7]).toBeGreaterThan(2 * fall(cosine)[0]!);
});

test('best or last: which epoch is kept', async () => {
  const values = { lr: 5, optimizer: 'sgd', schedule: 'constant', epochs: 12 } as const;
  const [best, last] = [
    await trained(values, { seed: 2 }),
    await trained({ ...values, checkpoint: 'last' }, { seed: 2 }),
  ];
  const order = (a: Line, b: Line): number =>
    b.val_accuracy - a.val_accuracy || a.val_loss - b.val_loss || a.epoch - b.epoch;
  const [first] = [...best.epochs].sort(order);
  expect(best.result.epoch).toBe(first!.epoch);
  expect(best.result.validation).toEqual({ accuracy: first!.val_accuracy, loss: first!.val_loss });
  expect(best.result.epoch).not.toBe(12);
  expect(last.result.epoch).toBe(12);
  expect(last.epochs).toEqual(best.epochs);
  expect(last.adapter.equals(best.adapter)).toBe(false);
});

test.each([5, 256])('patience: stops as many epochs after the best, with batches of %d', async (batch_size) => {
  const { epochs, result } = await trained({
    epochs: 300,
    lr: 5,
    schedule: 'constant',
    patience: 3,
    checkpoint: 'last',
    batch_size,
  });
  const best = epochs.reduce((b, l) =>
    l.val_accuracy > b.val_accuracy || (l.val_accuracy === b.val_accuracy && l.val_loss < b.val_loss) ? l : b,
  );
  expect(epochs.length).toBeLessThan(300);
  expect(epochs.length).toBe(best.epoch + 3);
  expect(result.epoch).toBe(epochs.length);
});

test('class weights, label smoothing and clipping do what they say', async () => {
  const all = { shots: 'all', validation: 'none' };
  const first = async (training: Values, rest: object): Promise<number> =>
    (await trained({ epochs: 1, batch_size: 256, ...training }, rest)).steps[0]!.loss;
  const plain = await first({}, all);
  expect(await first({ class_weights: 'balanced' }, all)).not.toBeCloseTo(plain, 4);
  expect(await first({ label_smoothing: 0.2 }, all)).toBeGreaterThan(plain);
  // with as many rows in each class the weights are all 1
  const even = { validation: 'none' };
  expect(await first({ class_weights: 'balanced' }, even)).toBeCloseTo(await first({}, even), 6);
  const clipped = await trained({ optimizer: 'sgd', lr: 1, batch_size: 256, max_grad_norm: 1e-9 }, all);
  expect(clipped.steps[0]!.loss).toBe(plain);
  expect(clipped.epochs.at(-1)!.loss).toBeCloseTo(plain, 5);
});

describe('rows', () => {
  test.each(['taskres', 'tip-adapter-f', 'linear-probe'])('%s never looks at the test rows', async (method) => {
    const content = tinyContent({ train: [12, 6, 9], noise: 1.2 });
    const scrambled = join(folder, 'scrambled.safetensors');
    await writeFeatureFile(scrambled, {
      ...content,
      test: {
        features: float32(
          [18, 8],
          content.test!.features.data.map((_, i) => Math.sin(i)),
        ),
        labels: content.test!.labels.map((k) => 2 - k),
      },
    });
    const training = method === 'linear-probe' ? { batch_size: 1 } : {};
    const recipe = { method, search: 'on', ...(method === 'linear-probe' ? { training: {} } : {}) };
    const [a, b] = [await trained(training, recipe), await trained(training, { ...recipe, features: scrambled })];
    expect(b.adapter.equals(a.adapter)).toBe(true);
    expect(b.result.config).toEqual(a.result.config);
    expect(b.result.validation).toEqual(a.result.validation);
    expect(b.epochs).toEqual(a.epochs);
    expect(b.result.test).not.toEqual(a.result.test);
  });

  test('too few for what was asked: a warning in the run', async () => {
    const { info } = await trained({}, { shots: 10 });
    expect(info.warnings).toContainEqual(expect.stringContaining('fewer than 10 training rows in 2 of 3 classes'));
    const { tensors } = await readSafetensors(join(folder, `run ${runs - 1}`, 'support.safetensors'));
    expect(tensors.get('support.labels')!.data).toHaveLength(10 + 6 + 9);
    expect(info.validation).toBe('kfold');
  });
});

test('L-BFGS reaches the minimum that Newton finds in double precision', async () => {
  const { train: rows, classNames } = tinyContent({ train: [5, 5], dim: 3, noise: 1.5 });
  const l2 = 0.1;
  const method = featureMethod('linear-probe');
  const { recipe } = resolveRecipe({ features: 'f', method: 'linear-probe', config: { l2 } });
  const module = method.create({ support: rows!, classes: 2, dim: 3, logitScale: 1 }, recipe.config);
  const runtime = nodeRuntime();
  const { values } = await fit({
    runtime,
    module,
    train: rows!,
    training: recipe.training!,
    random: Random.seeded(1),
    threads: 1,
  });
  await runtime.close();
  expect(classNames).toHaveLength(2);
  // the optimum has W₁ = -W₀, so that u = W₁ - W₀ and c = b₁ - b₀ minimise
  // mean log(1 + exp(-y (u·x + c))) + l2/4 |u|²
  const x = Array.from({ length: 10 }, (_, r) => {
    const row = rows!.features.data.slice(3 * r, 3 * r + 3);
    const norm = Math.hypot(...row);
    return [...row].map((v) => v / norm).concat(1);
  });
  const w = [0, 0, 0, 0];
  for (let i = 0; i < 30; i++) {
    const gradient = w.map((v, a) => (a < 3 ? (l2 / 2) * v : 0));
    const hessian = w.map((_, a) => w.map((__, b) => (a === b && a < 3 ? l2 / 2 : 0)));
    x.forEach((row, r) => {
      const p = 1 / (1 + Math.exp(-row.reduce((s, v, a) => s + v * w[a]!, 0)));
      row.forEach((v, a) => {
        gradient[a]! += ((p - rows!.labels[r]!) * v) / 10;
        row.forEach((u, b) => {
          hessian[a]![b]! += (p * (1 - p) * v * u) / 10;
        });
      });
    });
    solve(hessian, gradient).forEach((d, a) => {
      w[a]! -= d;
    });
  }
  const [weight, bias] = ['weight', 'bias'].map(
    (name) => Object.entries(values).find(([n]) => n.endsWith(name))![1].data as Float32Array,
  );
  for (let a = 0; a < 3; a++) {
    expect(weight![3 + a]! - weight![a]!).toBeCloseTo(w[a]!, 3);
    expect(weight![3 + a]!).toBeCloseTo(-weight![a]!, 4);
  }
  expect(bias![1]! - bias![0]!).toBeCloseTo(w[3]!, 3);
});

/** Gaussian elimination with pivots; A is small and symmetric positive definite. */
function solve(a: number[][], b: number[]): number[] {
  const m = a.map((row, i) => [...row, b[i]!]);
  m.forEach((pivot, i) => {
    for (const [j, row] of m.entries()) {
      if (j !== i) {
        const factor = row[i]! / pivot[i]!;
        row.forEach((_, k) => {
          row[k]! -= factor * pivot[k]!;
        });
      }
    }
  });
  return m.map((row, i) => row.at(-1)! / row[i]!);
}
