/** A made-up comparison for the tests of the report. */
import type { ComparisonDataset } from '../../../index.js';
import type { CompareCell, CompareMethod, CompareResult } from '../types.js';

const methods: CompareMethod[] = [
  { name: 'zero-shot', method: 'zero-shot', title: 'Zero-shot CLIP', paper: 'https://arxiv.org/abs/2103.00020' },
  { name: 'tip-adapter', method: 'tip-adapter', title: 'Tip-Adapter' },
  { name: 'graph-adapter', method: 'graph-adapter', title: 'GraphAdapter', paper: 'Li et al., NeurIPS 2023' },
];

/** Accuracies in % by method, number of shots and seed 1, 2, 3. */
const accuracies: Record<string, Record<number, number[]>> = {
  'zero-shot': { 1: [60, 60, 60], 4: [60, 60, 60], 16: [60, 60, 60] },
  'tip-adapter': { 1: [62, 61, 63], 4: [65, 66, 64], 16: [70, 70.5, 69.5] },
  'graph-adapter': { 1: [62.5, 63.5, 61.5], 4: [66, 66.5, 65.5], 16: [75, 76, 74] },
};

const parameters: Record<string, (shots: number) => number> = {
  'zero-shot': () => 0,
  'tip-adapter': (shots) => 5120 * shots,
  'graph-adapter': () => 1_050_624,
};

const cells: CompareCell[] = methods.flatMap(({ name: method }) => [1, 4, 16].flatMap((shots) =>
  [1, 2, 3].map((seed) => ({
    dataset: 'pets', method, shots, seed, rows: 500,
    accuracy: accuracies[method]![shots]![seed - 1]! / 100,
    ece: (seed + shots) / 200,
    trainableParameters: parameters[method]!(shots),
    seconds: shots * seed * 0.5,
    hyperparameters: method === 'zero-shot' ? {} : { learningRate: 0.001, alpha: 1.5 },
  }))));

const pets: ComparisonDataset = {
  name: 'pets', path: 'features/pets.safetensors', digest: 'sha256:0123456789abcdef', model: 'clip-vit-b16',
  classes: 10, dim: 512, train: 1000, test: 500,
};

/** Two data sets: the one of `sample`, and `food` with 100 rows, where all are 10 points better and seed 3 one more. */
export function twoSets(changes: Partial<CompareResult> = {}): CompareResult {
  const food = { ...pets, name: 'food', path: 'features/food.safetensors', classes: 20, test: 100 };
  const more = cells.map((c) => ({
    ...c, dataset: 'food', rows: 100, accuracy: c.accuracy + (c.method !== 'zero-shot' && c.seed === 3 ? 0.11 : 0.1),
    groups: { seen: { rows: 80, accuracy: 0.9 }, unseen: { rows: 20, accuracy: c.accuracy } },
  }));
  return sample({ datasets: [pets, food], cells: [...cells, ...more], ...changes });
}

/** Three methods at 1, 4 and 16 shots with seeds 1, 2 and 3; `changes` replaces fields. */
export function sample(changes: Partial<CompareResult> = {}): CompareResult {
  return {
    created: '2026-01-02T03:04:05.000Z',
    scionVersion: '0.1.0',
    datasets: [pets],
    recipe: { method: 'graph-adapter', epochs: 20, schedule: { name: 'cosine', warmup: 1 } },
    environment: { node: 'v20.19.0', threads: '2' },
    methods, shots: [1, 4, 16], seeds: [1, 2, 3], cells, warnings: [],
    ...changes,
  };
}
