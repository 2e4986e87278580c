/** The loss of a batch of rows, and how good it is: for answers that are chosen, and for words that follow. */
import type { Graph, Value } from '../../ir/graph.js';
import { enableDropout } from '../../nn/dropout.js';
import * as f from '../../nn/functional.js';
import type { VisionText } from '../../nn/vision-text.js';
import type { Tensors } from '../../runtime/session.js';
import { type Tensor, float32, int64, tensor } from '../../util/tensor.js';
import type { Row } from './examples.js';

/** The sizes of a batch, which do not change. */
export interface BatchShape {
  rows: number;
  /** Tokens of a text. */
  length: number;
  /** Tokens that an encoder-decoder has written. */
  written?: number | undefined;
}

/** The pictures' features, row after row. */
export interface Visual {
  tokens: number;
  dim: number;
  /** [pictures, tokens · dim] */
  data: Float32Array;
}

export interface Objective {
  readonly shape: BatchShape;
  /**
   * `loss` and `score`, both averaged over what counts, and its `weight`. The score of a chosen answer is its soft score
   * (VQA's accuracy, but for its averaging); of words it is 1 where the likeliest next word is the right one.
   */
  build(graph: Graph, options?: { training?: boolean; labelSmoothing?: number }): { loss: Value; score: Value; weight: Value };
  /** Rows → inputs of `build`; places without a row have no weight. */
  feeds(rows: readonly (Row | undefined)[]): Tensors;
}

/** The sizes that rows need. */
export function shapeOf(rows: readonly Row[], batch: number): BatchShape {
  const longest = (of: (row: Row) => number): number => rows.reduce((most, row) => Math.max(most, of(row)), 1);
  const shape = { rows: Math.min(batch, rows.length), length: longest(({ ids }) => ids.length) };
  return rows[0]?.written ? { ...shape, written: longest(({ written }) => written!.length) } : shape;
}

/** The inputs `visual`, `ids` and `mask` of so many rows, in a graph. */
export function textInputs(graph: Graph, model: VisionText, { rows, length }: BatchShape): { visual?: Value; ids: Value; mask: Value } {
  const { sight } = model;
  return {
    ...(sight && { visual: graph.input('visual', 'float32', [rows, sight.tokens, sight.dim]) }),
    ids: graph.input('ids', 'int64', [rows, length]),
    mask: graph.input('mask', 'float32', [rows, length]),
  };
}

/** Texts and pictures → the inputs of `textInputs`. What has no text is padding all over. */
export function textFeeds(
  { rows, length }: BatchShape, texts: readonly (Pick<Row, 'ids' | 'picture'> | undefined)[], visual: Visual | undefined, pad: number,
): Tensors {
  const ids = new BigInt64Array(rows * length).fill(BigInt(pad));
  const mask = new Float32Array(rows * length);
  texts.forEach((row, i) => row?.ids.slice(0, length).forEach((id, t) => {
    ids[i * length + t] = BigInt(id);
    mask[i * length + t] = 1;
  }));
  // a text without any token would be attended to by nothing
  for (let i = 0; i < rows; i++) mask[i * length] = 1;
  return {
    ids: tensor('int64', [rows, length], ids), mask: float32([rows, length], mask),
    ...(visual && { visual: visualFeed(rows, texts, visual) }),
  };
}

/** The features of so many pictures, [rows, tokens, dim]. */
export function visualFeed(
  rows: number, texts: readonly (Pick<Row, 'picture'> | undefined)[], { tokens, dim, data }: Visual,
): Tensor<'float32'> {
  const size = tokens * dim;
  const out = new Float32Array(rows * size);
  texts.forEach((row, i) => {
    if (row) out.set(data.subarray(row.picture * size, (row.picture + 1) * size), i * size);
  });
  return float32([rows, tokens, dim], out);
}

/** The objective of rows with `scores`: binary cross entropy of every answer, summed, as Teney et al. (CVPR 2018). */
export function answerObjective(
  model: VisionText, shape: BatchShape, visual: Visual | undefined, pad: number,
): Objective {
  const answers = model.head!.answers;
  return {
    shape,
    build(graph, { training = false } = {}) {
      if (training) enableDropout(graph);
      const logits = model.classify(textInputs(graph, model, shape));
      const targets = graph.input('targets', 'float32', [shape.rows, answers]);
      const weights = graph.input('weights', 'float32', [shape.rows]);
      const chosen = f.reshape(f.argMax(logits, 1), [shape.rows, 1]);
      const scores = f.reshape(f.gatherElements(targets, chosen, 1), [shape.rows]);
      return {
        loss: f.binaryCrossEntropy(logits, targets, { weights }),
        score: f.weightedMean(scores, weights), weight: f.reduceSum(weights),
      };
    },
    feeds(rows) {
      const targets = new Float32Array(shape.rows * answers);
      rows.forEach((row, i) => row?.scores!.forEach(([answer, score]) => { targets[i * answers + answer] = score; }));
      return {
        ...textFeeds(shape, rows, visual, pad),
        targets: float32([shape.rows, answers], targets),
        weights: float32([shape.rows], rows.map((row) => Number(row !== undefined))),
      };
    },
  };
}

/** The objective of rows with `labels`: cross entropy of the next words, averaged over the words of the batch. */
export function wordObjective(model: VisionText, shape: BatchShape, visual: Visual | undefined, pad: number): Objective {
  const places = shape.written ?? shape.length;
  return {
    shape,
    build(graph, { training = false, labelSmoothing = 0 } = {}) {
      if (training) enableDropout(graph);
      const written = shape.written === undefined ? {} : { written: graph.input('written', 'int64', [shape.rows, shape.written]) };
      const logits = model.nextWords({ ...textInputs(graph, model, shape), ...written });
      const count = places * shape.rows;
      const labels = graph.input('labels', 'int64', [count]);
      const weights = graph.input('weights', 'float32', [count]);
      const right = f.cast(f.equal(f.argMax(logits, 1), labels), 'float32');
      return {
        loss: f.crossEntropy(logits, labels, { weights, labelSmoothing }),
        score: f.weightedMean(right, weights), weight: f.reduceSum(weights),
      };
    },
    feeds(rows) {
      const labels = new BigInt64Array(places * shape.rows);
      const weights = new Float32Array(places * shape.rows);
      rows.forEach((row, i) => row?.labels!.slice(0, places).forEach((label, t) => {
        if (label < 0) return;
        labels[t * shape.rows + i] = BigInt(label); // row = token · batch + example
        weights[t * shape.rows + i] = 1;
      }));
      const given = textFeeds(shape, rows, visual, pad);
      if (shape.written !== undefined) {
        const all = int64([shape.rows, places], rows.flatMap((row) =>
          Array.from({ length: places }, (_, t) => row?.written![t] ?? pad)));
        given['written'] = all;
      }
      return { ...given, labels: tensor('int64', [labels.length], labels), weights: float32([weights.length], weights) };
    },
  };
}
