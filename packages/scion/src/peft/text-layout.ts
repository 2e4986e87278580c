/** Where a tokenizer puts a text among its marks and padding, found out from what it makes of texts. */
import { inputError, usageError } from '../util/errors.js';
import { type Tensor, int64 } from '../util/tensor.js';
import type { AttachContext, PromptWords } from './backbone-method.js';

/**
 * The words that a method learns prompts for.
 * @throws ScionError of kind `usage` where there are none
 */
export function wordsFor(method: string, { words }: AttachContext): PromptWords {
  if (words) return words;
  throw usageError('method', `${method}: learns words beside those of the classes, and nothing is classified by words here; `
    + 'use a model with a text tower');
}

/** Texts as ids without marks and padding, and back. */
export class TextLayout {
  /** Marks that stand before every text. */
  readonly begin: readonly number[];
  /** What follows a text, its end mark first. */
  private readonly tail: readonly number[];

  /** @throws ScionError of kind `usage` for a tokenizer that fills texts up on their left */
  constructor(private readonly words: PromptWords) {
    const [empty, letter, longer] = this.tokenize(['', 'a', 'a a a']) as [number[], number[], number[]];
    const same = empty.findIndex((id, i) => id !== letter[i]);
    this.begin = empty.slice(0, Math.max(0, same));
    this.tail = empty.slice(this.begin.length);
    const starts = this.begin.every((id, i) => id === longer[i]);
    if (same < 0 || !starts || this.tail.length < 2) {
      throw usageError('method', 'learned prompts need a tokenizer that fills texts up behind their end; that of the model '
        + 'does not; set "padding_side": "right" in tokenizer_config.json if the model was trained so');
    }
  }

  /** The ids of texts between their marks. What was cut off is not among them. */
  contents(texts: readonly string[]): number[][] {
    return this.tokenize(texts).map((ids) => {
      const after = ids.slice(this.begin.length);
      // the first place from which on only end mark and padding follow
      const length = after.findIndex((_, n) => after.slice(n).every((id, i) => id === this.tail[i]));
      return after.slice(0, length < 0 ? after.length : length);
    });
  }

  /**
   * Ids of every class's texts with marks and padding: for each class [its texts, length].
   * @throws ScionError of kind `input` that names the classes with texts that do not fit the model
   */
  assemble(contents: readonly (readonly (readonly number[])[])[]): Tensor<'int64'>[] {
    const { length, classNames } = this.words;
    const longest = contents.map((texts) => Math.max(...texts.map((ids) => this.begin.length + ids.length + 1)));
    const tooLong = longest.flatMap((n, k) => (n > length ? [k] : []));
    if (tooLong.length > 0) {
      const [first] = tooLong as [number];
      const others = tooLong.length > 1 ? ` (${tooLong.length - 1} more classes are too long as well)` : '';
      throw inputError(`class ${JSON.stringify(classNames[first])}`,
        `its text has ${longest[first]} tokens with the learned ones and the marks, the model takes ${length}${others}; `
        + 'learn fewer tokens, or shorten the name');
    }
    const fill = (ids: readonly number[]): number[] => {
      const filled = [...this.begin, ...ids];
      return [...filled, ...this.tail.slice(0, length - filled.length)];
    };
    return contents.map((texts) => int64([texts.length, length], texts.flatMap(fill)));
  }

  private tokenize(texts: readonly string[]): number[][] {
    const { data, shape } = this.words.tokenize(texts);
    const length = shape[1]!;
    return texts.map((_, i) => Array.from(data.subarray(i * length, (i + 1) * length), Number));
  }
}
