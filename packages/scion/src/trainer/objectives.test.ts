import { afterAll, expect, test } from 'vitest';
import { newRoberta } from '../models/roberta/index.js';
import { nodeRuntime } from '../runtime/node.js';
import { Random } from '../util/random.js';
import { float32, int64 } from '../util/tensor.js';
import { type MaskedBatch, maskedLanguageModelling } from './objectives.js';
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

async function score(batches: readonly MaskedBatch[], steps: number): Promise<{ score: PretrainScore; first: number }> {
  let score: PretrainScore | undefined;
  let first: number | undefined;
  await pretrain({
    runtime, objective: maskedLanguageModelling(newRoberta(roberta)), steps, lr: 0.01, warmup: 10, weightDecay: 0.01,
    labelSmoothing: 0, maxGradNorm: 1, seed: 2, threads: 1, batch: texts, checkpointEvery: 1000,
    onStep: (_, loss) => { first ??= loss; }, onCheckpoint: () => Promise.resolve(),
    validation: { batches, onScore: (_, s) => { score = s; } },
  });
  return { score: score!, first: first! };
}

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
