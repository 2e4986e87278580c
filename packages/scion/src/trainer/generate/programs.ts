/** The two programs of generation: the pass over the prompts, and the step of one more word. */
import type { Graph} from '../../ir/graph.js';
import { type Value } from '../../ir/graph.js';
import * as f from '../../nn/functional.js';
import { FirstPassCache, type KeysAndValues, SlotCache, repeat } from '../../nn/key-value-cache.js';
import { setRoutes } from '../../nn/routes.js';
import type { DType, Shape } from '../../util/tensor.js';
import { type Program, compileInference } from '../compile.js';
import type { GenerationSource, Writer } from './source.js';

export interface GenerationShape {
  /** Prompts at a time. */
  batch: number;
  /** Rows of a prompt in a step: beams, or texts that are drawn. */
  copies: number;
  /** Words of the longest prompt. */
  prompt: number;
  /** Words that may be written. */
  most: number;
  /** Whether rows change places between steps. */
  reordered: boolean;
  /** Whether scores are log-probabilities; logits otherwise. */
  normalised: boolean;
  /** How many words of the highest scores a step hands over; all where absent. */
  best: number | undefined;
}

export interface GenerationPrograms {
  first: Program;
  step: Program;
  /** Tokens before the words of a prompt. */
  prefix: number;
  /** Of the decoder's cache. */
  slots: number;
  /** What the first program hands to the step. */
  held: readonly string[];
  /** Output → input of a step. */
  carry: Readonly<Record<string, string>>;
}

/** Inputs of the prompts. */
function promptInputs(graph: Graph, { inputs = {}, condition }: GenerationSource, batch: number) {
  const own = Object.fromEntries(Object.entries(inputs).map(([name, { dtype, shape }]) =>
    [name, graph.input(name, dtype, [batch, ...shape])]));
  return condition?.(own) ?? {};
}

/** Scores of the next word from the last rows [N, width]: `scores` [N, vocabulary], or the best and their `ids`. */
function scores(model: Writer, rows: Value, { normalised, best }: GenerationShape): Record<string, Value> {
  const logits = model.logits(rows);
  const all = normalised ? f.logSoftmax(logits) : logits;
  if (best === undefined) return { scores: all };
  const [values, words] = f.topK(all, best);
  return { scores: values, words: f.cast(words, 'int32') };
}

const lastRow = (x: Value): Value => f.reshape(f.slice(x, 0, x.shape[0]! - 1, x.shape[0]!), [-1, x.shape[2]!]);

const named = (layers: readonly KeysAndValues[], name: string): Record<string, Value> =>
  Object.fromEntries(layers.flatMap(({ keys, values }, i) =>
    [[`${name}.${i}.keys`, keys], [`${name}.${i}.values`, values]]));

/**
 * The pass over prompts. Inputs: `ids` int64 [B, prompt], `mask` [B, prefix + prompt], for a decoder `positions` int64
 * [prefix + prompt, B], and those of the source. A decoder's prompts are padded on the left, an encoder's on the right.
 */
function firstPass(source: GenerationSource, shape: GenerationShape, slotsAfter: (prefix: number) => number) {
  const { model } = source;
  const { batch, copies, prompt } = shape;
  let prefixed = 0;
  let held: Record<string, Value> = {};
  const program = compileInference((graph) => {
    const { prefix, routes } = promptInputs(graph, source, batch);
    if (routes) setRoutes(graph, routes);
    prefixed = prefix?.shape[0] ?? 0;
    const words = model.embed(graph.input('ids', 'int64', [batch, prompt]));
    const tokens = prefix ? f.concat([prefix, words], 0) : words;
    const count = tokens.shape[0]!;
    const mask = graph.input('mask', 'float32', [batch, count]);
    const caches = Array.from({ length: model.layers }, () => new FirstPassCache());
    let last: Value;
    if (model.kind === 'decoder') {
      const positions = graph.input('positions', 'int64', [count, batch]);
      ({ last } = model.decode(tokens, { mask, caches, positions }));
    } else {
      setRoutes(graph, { mask });
      const encoded = { last: model.encode(tokens, mask).last, mask };
      setRoutes(graph, { encoder: encoded.last });
      const known = model.known(encoded);
      const each = (rows: Value): Value => repeat(f.reshape(rows, [count, batch, -1]), copies);
      const start = f.full(graph, 'int64', [batch, 1], model.decoderStart);
      ({ last } = model.decode(model.embed(start), { ...encoded, known }, { caches }));
      held = {
        ...named(known.map(({ keys, values }) => ({ keys: each(keys), values: each(values) })), 'known'),
        'encoder.last': repeat(encoded.last, copies),
        'encoder.mask': f.reshape(repeat(f.reshape(mask, [1, batch, count]), copies), [-1, count]),
      };
    }
    if (routes?.visual) held['routes.visual'] = repeat(routes.visual, copies);
    Object.assign(held, named(caches.map((cache) => cache.slots(slotsAfter(prefixed), batch, copies)), 'cache'));
    return { ...scores(model, lastRow(last), shape), ...held };
  });
  const types = new Map(Object.entries(held).map(([name, { dtype, shape: s }]) => [name, { dtype, shape: s }]));
  return { program, prefix: prefixed, types };
}

/**
 * The step of one more word. Inputs: `ids` int64 [rows, 1], `mask` [rows, slots], `positions` int64 [1, rows], `slot`
 * int64 [1, 1], `order` int64 [rows] where rows change places, and what the first pass handed over.
 */
function nextStep(
  { model }: GenerationSource, shape: GenerationShape, slots: number,
  types: ReadonlyMap<string, { dtype: DType; shape: Shape }>,
): Program {
  const rows = shape.batch * shape.copies;
  return compileInference((graph) => {
    const held = new Map([...types].map(([name, type]) => [name, graph.input(name, type.dtype, type.shape, 'state')]));
    const layers = (name: string): KeysAndValues[] => Array.from({ length: model.layers }, (_, i) =>
      ({ keys: held.get(`${name}.${i}.keys`)!, values: held.get(`${name}.${i}.values`)! }));
    const [encoder, mask] = [held.get('encoder.last'), held.get('encoder.mask')];
    setRoutes(graph, { visual: held.get('routes.visual'), encoder, mask });
    const slot = graph.input('slot', 'int64', [1, 1]);
    const order = shape.reordered ? graph.input('order', 'int64', [rows]) : undefined;
    const caches = layers('cache').map((before) => new SlotCache(before, slot, order));
    const options = {
      caches, mask: graph.input('mask', 'float32', [rows, slots]),
      positions: graph.input('positions', 'int64', [1, rows]),
    };
    const tokens = model.embed(graph.input('ids', 'int64', [rows, 1]));
    const flat = ({ keys, values }: KeysAndValues): KeysAndValues =>
      ({ keys: f.reshape(keys, [-1, keys.shape[2]!]), values: f.reshape(values, [-1, values.shape[2]!]) });
    const { last } = model.kind === 'decoder' ? model.decode(tokens, options)
      : model.decode(tokens, { last: encoder!, mask, known: layers('known').map(flat) }, options);
    const after = Object.entries(named(caches.map((cache) => cache.after), 'cache'));
    return { ...scores(model, lastRow(last), shape), ...Object.fromEntries(after.map(([n, v]) => [`next.${n}`, v])) };
  });
}

export function generationPrograms(source: GenerationSource, shape: GenerationShape): GenerationPrograms {
  const { model } = source;
  // the last word that is written is not read
  const slotsAfter = (prefix: number): number =>
    (model.kind === 'decoder' ? prefix + shape.prompt : 1) + Math.max(1, shape.most - 1);
  const { program: first, prefix, types } = firstPass(source, shape, slotsAfter);
  const slots = slotsAfter(prefix);
  const names = [...types.keys()];
  return {
    first, step: nextStep(source, shape, slots, types), prefix, slots, held: names,
    carry: Object.fromEntries(names.filter((name) => name.startsWith('cache.')).map((name) => [`next.${name}`, name])),
  };
}
