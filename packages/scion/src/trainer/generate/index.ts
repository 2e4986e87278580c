/** Generation of texts by greedy, beam and nucleus search, many prompts at a time, with caches of keys and values. */
import type { Runtime, Session, SessionOptions, Tensors } from '../../runtime/session.js';
import { inputError, stopIf, usageError } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { float32, int64, sameShape } from '../../util/tensor.js';
import { openProgram } from '../program.js';
import { beamSearch } from './beam-search.js';
import {
  type GenerationOptions, type GenerationSettings, checkGenerationOptions, endOf, mostNewTokens,
} from './options.js';
import { layOut, pickRows } from './layout.js';
import { copyOf, scoreRows, wordsNeeded } from './processors.js';
import { type GenerationPrograms, generationPrograms } from './programs.js';
import { type Generated, oneByOne } from './search.js';
import type { GenerationSource, Writer } from './source.js';

export { type GenerationOptions, generationOptions } from './options.js';
export type { Generated } from './search.js';
export type { Condition, GenerationSource, Writer } from './source.js';

export interface GeneratorOptions {
  /** Prompts that are computed at a time. */
  batch: number;
  /** Words of the longest prompt. */
  promptLength: number;
  /** What was trained, by name; what the model has of its own is read from where it lies. */
  values?: Tensors;
  /** Of what is drawn. */
  seed?: number;
  /**
   * `prepack` is on in the step, unless it is set here: a step has few rows, so that packing weights anew takes up to
   * half of its time.
   */
  session?: SessionOptions;
}

export interface Prompts {
  /** Ids without padding. An empty one is the model's begin token. */
  ids: readonly (readonly number[])[];
  /** What the source asks for beside: [prompts, …]. */
  inputs?: Tensors;
  signal?: AbortSignal;
}

/** Opened once, for any number of prompts. */
export interface Generator {
  /**
   * @returns of each prompt its `num_return_sequences` texts, the best first
   * @throws ScionError of kind `input` for a prompt that is too long or not of the vocabulary
   */
  generate(prompts: Prompts): Promise<Generated[][]>;
  /** Frees the memory; must be called. */
  release(): Promise<void>;
}

/**
 * Compiles generation for a shape and loads it.
 * @param source a model of texts, or what a model that reads more is made of
 * @throws ScionError of kind `usage` for options that are wrong or texts that are longer than the model's positions
 */
export async function openGenerator(
  runtime: Runtime, source: GenerationSource, given: GenerationOptions, options: GeneratorOptions,
): Promise<Generator> {
  const settings = checkGenerationOptions(given, source.model);
  const { batch, promptLength } = options;
  for (const [name, value] of Object.entries({ batch, promptLength })) {
    if (!Number.isInteger(value) || value < 1) throw usageError(name, `is ${value}, expected a whole number from 1 on`);
  }
  const { num_beams: beams, copies } = settings;
  const programs = generationPrograms(source, {
    batch, copies, prompt: promptLength, most: mostNewTokens(settings), reordered: beams > 1, normalised: beams > 1,
    best: wordsNeeded(settings, source.model.vocabulary),
  });
  checkPositions(source.model, programs, settings, promptLength);
  const values = options.values ?? {};
  const first = await openProgram(runtime, programs.first, values, options.session);
  try {
    const step = await openProgram(runtime, programs.step, values, { prepack: true, ...options.session });
    return new CompiledGenerator(source, settings, options, programs, first, step);
  } catch (error) {
    await first.release();
    throw error;
  }
}

function checkPositions(
  model: Writer, { prefix }: GenerationPrograms, settings: GenerationSettings, promptLength: number,
): void {
  const decodes = model.kind === 'decoder';
  // the last word that is written is not read
  const longest = (decodes ? prefix : 0) + endOf(settings, decodes ? promptLength : 1) - 1;
  if (longest <= model.positions) return;
  throw usageError(settings.max_new_tokens === undefined ? 'max_length' : 'max_new_tokens',
    `texts would have ${longest} tokens, prompt and prefix with them, and the model has ${model.positions} positions; `
      + 'write fewer, or shorten the prompts');
}

class CompiledGenerator implements Generator {
  /** Prompts so far: each draws from a stream of its own, however they are divided into batches. */
  private count = 0;

  constructor(
    private readonly source: GenerationSource, private readonly settings: GenerationSettings,
    private readonly options: GeneratorOptions, private readonly programs: GenerationPrograms,
    private readonly first: Session, private readonly step: Session,
  ) {}

  async generate({ ids, inputs = {}, signal }: Prompts): Promise<Generated[][]> {
    const prompts = ids.map((prompt, i) => this.checked(prompt, i));
    this.checkInputs(inputs, prompts.length);
    const { batch } = this.options;
    const results: Generated[][] = [];
    for (let from = 0; from < prompts.length; from += batch) {
      stopIf(signal);
      results.push(...await this.one(prompts.slice(from, from + batch), pickRows(inputs, from, batch), signal));
    }
    return results;
  }

  async release(): Promise<void> {
    await Promise.all([this.first.release(), this.step.release()]);
  }

  /** At most a batch of prompts; what is missing is filled up with the first and dropped. */
  private async one(
    prompts: readonly (readonly number[])[], inputs: Tensors, signal?: AbortSignal,
  ): Promise<Generated[][]> {
    const { model } = this.source;
    const { settings, options: { batch, promptLength, seed = 0 }, programs: { prefix, slots, held, carry } } = this;
    const decodes = model.kind === 'decoder';
    const rows = batch * settings.copies;
    const start = decodes ? Math.max(...prompts.map((p) => p.length)) : 1;
    const end = endOf(settings, start);
    if (start >= end) {
      throw inputError('', `a prompt has ${start} tokens, and max_length ${end} leaves no place for more; raise it or `
        + 'set max_new_tokens');
    }
    const histories = decodes ? prompts : prompts.map(() => [(model as { decoderStart: number }).decoderStart]);
    const randoms = prompts.flatMap((_, i) => Array.from({ length: settings.copies }, (_none, copy) =>
      Random.seeded(seed).child('generate', this.count + i, copy)));
    this.count += prompts.length;
    const search = settings.num_beams > 1
      ? beamSearch(histories, start, end, settings) : oneByOne(histories, start, end, settings, randoms);

    const filled = Array.from({ length: batch }, (_, i) => prompts[i] ?? prompts[0]!);
    const { feeds, mask } = layOut(filled, promptLength, prefix, settings.pad, decodes);
    const outputs = await this.first.run({ ...feeds, ...inputs }, {
      fetch: this.outputs, carry: Object.fromEntries(held.map((name) => [name, name])),
    });
    await this.first.share(held, this.step);
    const perPrompt = scoreRows(outputs, batch);
    const used = prompts.length * settings.copies;
    const copied = Array.from({ length: used }, (_, row) => copyOf(perPrompt[Math.floor(row / settings.copies)]!));
    let next = search.advance(copied);

    // slots that a row's tokens may be looked for in; an encoder-decoder's begin with the output's start
    const seen = new Float32Array(rows * slots);
    const written = decodes ? prefix + promptLength : 1;
    for (let row = 0; row < rows; row++) {
      const example = Math.floor(row / settings.copies);
      if (decodes) seen.set(mask.subarray(example * written, (example + 1) * written), row * slots);
      else seen[row * slots] = 1;
    }
    const lengths = filled.map((prompt) => (decodes ? prefix + prompt.length : 1));
    for (let t = 0; next; t++) {
      stopIf(signal);
      for (let row = 0; row < rows; row++) seen[row * slots + written + t] = 1;
      const positions = Array.from({ length: rows }, (_, row) => lengths[Math.floor(row / settings.copies)]! + t);
      const { words, order } = next;
      const fed: Tensors = {
        ids: int64([rows, 1], Array.from({ length: rows }, (_, row) => words[row] ?? settings.pad)),
        mask: float32([rows, slots], seen), positions: int64([1, rows], positions), slot: int64([1, 1], [written + t]),
        ...(order && { order: int64([rows], Array.from({ length: rows }, (_, row) => order[row] ?? row)) }),
      };
      next = search.advance(scoreRows(await this.step.run(fed, { fetch: this.outputs, carry }), used));
    }
    return search.results();
  }

  private get outputs(): string[] {
    return this.programs.step.step.outputs.has('words') ? ['scores', 'words'] : ['scores'];
  }

  private checked(prompt: readonly number[], index: number): readonly number[] {
    const { beginToken, vocabulary } = this.source.model;
    const where = `prompt ${index + 1}`;
    const words = prompt.length === 0 && beginToken !== undefined ? [beginToken] : prompt;
    if (words.length === 0) throw inputError(where, 'has no token, and the model no token to begin with; give it one');
    const { promptLength } = this.options;
    if (words.length > promptLength) {
      throw inputError(where, `has ${words.length} tokens, expected at most promptLength ${promptLength}; shorten it, `
        + 'or open the generator for longer ones');
    }
    const strange = words.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary);
    if (strange !== undefined) {
      throw inputError(where,
        `${strange} is no token of a vocabulary of ${vocabulary}; take ids of the model's tokenizer`);
    }
    return words;
  }

  private checkInputs(inputs: Tensors, count: number): void {
    for (const [name, { dtype, shape }] of Object.entries(this.source.inputs ?? {})) {
      const expected = [count, ...shape];
      const given = inputs[name];
      if (given && given.dtype === dtype && sameShape(given.shape, expected)) continue;
      const got = given ? `is ${given.dtype} [${given.shape.join(', ')}]` : 'is missing';
      throw inputError(name, `${got}, expected ${dtype} [${expected.join(', ')}], one for each prompt`);
    }
  }
}
