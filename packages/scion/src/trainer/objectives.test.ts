import { afterAll, expect, test } from 'vitest';
import { newGpt2 } from '../models/gpt2/index.js';
import { newRoberta } from '../models/roberta/index.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { float32, int64 } from '../util/tensor.js';
import {
  type Batch, type CausalBatch, type MaskedBatch, type Objective, causalLanguageModelling, maskedLanguageModelling,
} from './objectives.js';
import { type PretrainScore, pretrain } from './pretrain.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const [batch, length, words, mask] = [8, 6, 12, 11];
const roberta = {
  model_type: 'roberta', vocab_size: words, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2,
  intermediate_size: 24, max_position_embeddings: length + 2, type_vocab_size: 1, pad_token_id: 1, bos_token_id: 0,
  eos_token_id: 2,
};

/** Texts of three words, the second of which is hidden: it follows from the third. Then padding. */
function texts(step: number): MaskedBatch {
  const random = Random.seeded(5).child(step);
  const ids: number[] = [];
  const targets: number[] = [];
  for (let i = 0; i < batch; i++) {
    const [a, b] = [random.integer(8), random.integer(8)];
    ids.push(0, 3 + a, mask, 3 + b, 2, 1);
    targets.push(3 + ((b + 1) % 8));
  }
  const places = targets.map((_, i) => 2 * batch + i);
  return {
    ids: int64([batch, length], ids), mask: float32([batch, length], ids.map((id) => (id === 1 ? 0 : 1))),
    // a place that only fills up the batch, whose target is wrong
    places: int64([batch + 1], [...places, 0]), targets: int64([batch + 1], [...targets, 7]),
    weights: float32([batch + 1], [...targets.map(() => 1), 0]),
  };
}

/** Texts that count up by one, by two or by three: what comes after the second word follows from both before it. */
function countings(step: number): CausalBatch {
  const random = Random.seeded(6).child(step);
  const ids: number[][] = Array.from({ length: batch }, () => {
    const [start, by] = [random.integer(8), 1 + random.integer(3)];
    return Array.from({ length: length + 1 }, (_, t) => (start + t * by) % 8);
  });
  const [targets, weights] = [Array<number>(length * batch), Array<number>(length * batch)];
  ids.forEach((row, b) => row.slice(1).forEach((id, t) => {
    targets[t * batch + b] = id;
    weights[t * batch + b] = t === 0 ? 0 : 1;
  }));
  return {
    ids: int64([batch, length], ids.flatMap((row) => row.slice(0, -1))),
    targets: int64([length, batch], targets), weights: float32([length, batch], weights),
  };
}

interface Trained { score: PretrainScore; first: number }
async function train<B extends Batch<B>>(
  objective: Objective<B>, next: (step: number) => B, batches: readonly B[], steps: number,
): Promise<Trained> {
  let score: PretrainScore | undefined;
  let first: number | undefined;
  await pretrain({
    runtime, objective, steps, lr: 0.01, warmup: 10, weightDecay: 0.01, labelSmoothing: 0, maxGradNorm: 1, seed: 2,
    threads: 1, batch: next, checkpointEvery: 1000,
    onStep: (_, loss) => { first ??= loss; }, onCheckpoint: () => Promise.resolve(),
    validation: { batches, onScore: (_, s) => { score = s; } },
  });
  return { score: score!, first: first! };
}
const score = (batches: readonly MaskedBatch[], steps: number): Promise<Trained> =>
  train(maskedLanguageModelling(newRoberta(roberta)), texts, batches, steps);

test('hidden words are found from the others, and what only fills up the batch does not count', async () => {
  const watched = [texts(-1), texts(-2), texts(-3)];
  const { score: learned, first } = await score(watched, 150);
  expect(Math.abs(first - Math.log(words))).toBeLessThan(0.3);
  expect(learned.accuracy).toBeGreaterThan(0.95);
  expect(learned.loss).toBeLessThan(0.3);
});

test('a score is a mean over the rows that count, however many each batch has', async () => {
  const few = texts(-1);
  few.weights.data.fill(0, 2);
  const many = texts(-2);
  const [both, a, b] = [await score([few, many], 1), await score([few], 1), await score([many], 1)];
  expect(both.score.loss).toBeCloseTo((2 * a.score.loss + batch * b.score.loss) / (2 + batch), 5);
  expect(Math.abs(a.score.loss - b.score.loss)).toBeGreaterThan(0.01);
});

test('words are found from those before them, and none from itself or those behind', async () => {
  const gpt2 = {
    model_type: 'gpt2', vocab_size: 8, n_embd: 16, n_layer: 2, n_head: 2, n_inner: 24, n_positions: length,
    bos_token_id: 0, eos_token_id: 0,
  };
  const objective = causalLanguageModelling(newGpt2(gpt2));
  const { score: learned, first } = await train(objective, countings, [countings(-1), countings(-2)], 200);
  expect(Math.abs(first - Math.log(8))).toBeLessThan(0.3);
  expect(learned.accuracy).toBeGreaterThan(0.95);
  // the second word does not follow from the first: three are equally likely, whatever comes behind
  const onlySecond = countings(-3);
  onlySecond.weights.data.forEach((_, i) => { onlySecond.weights.data[i] = i < batch ? 1 : 0; });
  const { score: guessed } = await train(causalLanguageModelling(newGpt2(gpt2)), (step) => {
    const made = countings(step);
    made.weights.data.set(onlySecond.weights.data);
    return made;
  }, Array.from({ length: 20 }, (_, i) => ({ ...countings(-10 - i), weights: onlySecond.weights })), 200);
  expect(guessed.loss).toBeGreaterThan(0.9);
});
