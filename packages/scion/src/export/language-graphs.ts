/** The programs of an exported run with words: the picture's encoder, the classifier of answers, the writer. */
import type { Graph, Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import type { VisionText } from '../nn/vision-text.js';
import { type Backbone, pictureTokens } from '../trainer/encode.js';
import { assert } from '../util/errors.js';
import { int64 } from '../util/tensor.js';
import type { Build } from './model.js';
import type { OpenAxis } from './symbolic.js';

/** A program with the axes that it leaves open. */
export interface OpenProgram {
  build: Build;
  axes: readonly OpenAxis[];
}

/** `pixel_values` [batch_size, 3, H, W] → `output` [batch_size, tokens, dim] */
export function pictureProgram(images: Backbone, kind: 'pooled' | 'patches', output: string): OpenProgram {
  const { height, width } = images.processor;
  return {
    axes: [{ name: 'batch_size', input: 'pixel_values', axis: 0, sizes: [31, 37, 41] }],
    build: (graph, size) =>
      ({ [output]: pictureTokens(images, kind, graph.input('pixel_values', 'float32', [size('batch_size'), 3, height, width])) }),
  };
}

type Sizes = OpenAxis['sizes'];
const longer = (sizes: Sizes, by: number): Sizes => sizes.map((n) => n + by) as [number, number, number];

/** Lengths of texts that programs are built at: for so many positions. */
const lengths = (most: number): Sizes => (most >= 30 ? [23, 29, 19] : [most - 1, most - 2, most - 4]);
const writtenLengths = (most: number): Sizes => (most >= 30 ? [11, 17, 13] : [most - 3, most - 5, most - 6]);

/** More than any number of tokens with those before them, so that no batch is as large as a text is long. */
const batchAxis = ({ prefix }: VisionText): OpenAxis =>
  ({ name: 'batch_size', input: 'input_ids', axis: 0, sizes: longer([31, 37, 41], prefix) });

/** The tokens of `words`, and where the picture stands before them, all together. */
const withPicture = ({ prefix }: VisionText, words: OpenAxis): OpenAxis[] =>
  (prefix === 0 ? [words]
    : [words, { ...words, name: 'tokens', sizes: longer(words.sizes, prefix), plus: (words.plus ?? 0) + prefix }]);

const seen = ({ sight }: VisionText, graph: Graph, batch: number, name: string): { visual?: Value } =>
  (sight ? { visual: graph.input(name, 'float32', [batch, sight.tokens, sight.dim]) } : {});

/** `visual`, `input_ids` and `attention_mask` [batch_size, sequence_length], the latter int64 as transformers has it. */
function textInputs(model: VisionText, graph: Graph, size: (axis: string) => number) {
  const [batch, length] = [size('batch_size'), size('sequence_length')];
  return {
    ...seen(model, graph, batch, 'visual'),
    ids: graph.input('input_ids', 'int64', [batch, length]),
    mask: f.cast(graph.input('attention_mask', 'int64', [batch, length]), 'float32'),
  };
}

const textAxes = (model: VisionText): OpenAxis[] => [batchAxis(model), ...withPicture(model, {
  name: 'sequence_length', input: 'input_ids', axis: 1, sizes: lengths(model.positions),
})];

/** → `logits` [batch_size, answers] */
export const answerProgram = (model: VisionText): OpenProgram => ({
  axes: textAxes(model),
  build: (graph, size) => ({ logits: model.classify(textInputs(model, graph, size)) }),
});

/** Rows of `nextWords`, token after token → [B, T, vocabulary] */
const byText = (rows: Value, tokens: number): Value =>
  f.transpose(f.reshape(rows, [tokens, rows.shape[0]! / tokens, -1]), [1, 0, 2]);

/**
 * → `logits` [batch_size, sequence_length, vocabulary] of the word that follows each token: of `input_ids`, or for an
 * encoder-decoder of `decoder_input_ids`.
 */
export function writerProgram(model: VisionText): OpenProgram {
  if (model.text.kind === 'decoder') {
    return {
      axes: textAxes(model),
      build: (graph, size) => ({ logits: byText(model.nextWords(textInputs(model, graph, size)), size('sequence_length')) }),
    };
  }
  const own: OpenAxis = {
    name: 'decoder_sequence_length', input: 'decoder_input_ids', axis: 1, sizes: writtenLengths(model.positions),
  };
  return {
    axes: [...textAxes(model), own],
    build: (graph, size) => {
      const written = graph.input('decoder_input_ids', 'int64', [size('batch_size'), size(own.name)]);
      return { logits: byText(model.nextWords({ ...textInputs(model, graph, size), written }), size(own.name)) };
    },
  };
}

/** The one tensor that transformers.js keeps between two words, and hands over again. */
const [past, present] = ['past_key_values.0.key', 'present.0.key'];

/**
 * A captioner as transformers.js runs a VisionEncoderDecoderModel: it gives the last word alone and what the graph said
 * is to be kept. What is kept here are the words so far, [batch_size, 1, past_sequence_length, 1], not their keys and
 * values; each step reads all of them again.
 * @param prompt what the encoder of an encoder-decoder reads beside the picture
 */
export function captionerProgram(model: VisionText, prompt: readonly number[]): OpenProgram {
  const { text } = model;
  const decodes = text.kind === 'decoder';
  const earlier: OpenAxis = {
    name: 'past_sequence_length', input: past, axis: 2,
    sizes: longer(decodes ? lengths(model.positions) : writtenLengths(model.positions), -1),
  };
  const words: OpenAxis = { ...earlier, name: 'sequence_length', sizes: longer(earlier.sizes, 1), plus: 1 };
  return {
    axes: [batchAxis(model), earlier, ...(decodes ? withPicture(model, words) : [words])],
    build: (graph, size) => {
      assert(model.sight, 'a captioner for transformers.js sees pictures');
      const [batch, length] = [size('batch_size'), size('sequence_length')];
      const before = graph.input(past, 'int64', [batch, 1, size('past_sequence_length'), 1]);
      const last = graph.input('input_ids', 'int64', [batch, 1]);
      const kept = f.concat([before, f.reshape(last, [batch, 1, 1, 1])], 2);
      const written = f.reshape(kept, [batch, length]);
      const fixed = (count: number) => ({ mask: f.full(graph, 'float32', [batch, count], 1) });
      const asked = decodes ? { ids: written, ...fixed(length) } : {
        ids: f.constant(graph, int64([batch, prompt.length], Array.from({ length: batch }, () => prompt).flat())),
        ...fixed(prompt.length), written,
      };
      const logits = byText(model.nextWords({ ...seen(model, graph, batch, 'encoder_hidden_states'), ...asked }), length);
      return { logits: f.slice(logits, 1, length - 1, length), [present]: kept };
    },
  };
}
