/** The options of generation, by the names, defaults and meanings of Hugging Face's GenerationConfig. */
import { z } from 'zod';
import { type Issue, ScionError } from '../../util/errors.js';
import { keptBeams } from './processors.js';

const count = z.number().int().min(1);
const token = z.number().int().min(0);
const tokens = z.union([token, z.array(token).min(1)]).transform((given) => [given].flat());

export const generationOptions = z.strictObject({
  max_new_tokens: count.optional().describe('words at most, without the prompt; 20 where max_length is absent too'),
  max_length: z.number().int().min(2).optional()
    .describe('the same with the longest prompt of the batch; max_new_tokens goes before'),
  min_new_tokens: z.number().int().min(0).default(0).describe('words before the end may come'),
  min_length: z.number().int().min(0).default(0).describe('the same with the longest prompt of the batch'),
  num_beams: count.max(256).default(1).describe('beams of beam search; 1: one word after the other'),
  length_penalty: z.number().default(1).describe('scores of beams are divided by length ^ length_penalty'),
  early_stopping: z.union([z.boolean(), z.literal('never')]).default(false)
    .describe('true: stop at num_beams texts; false: where better ones are unlikely; never: where there can be none'),
  no_repeat_ngram_size: z.number().int().min(0).default(0)
    .describe('sequences of so many words come once; 0: any number of times'),
  repetition_penalty: z.number().positive().default(1)
    .describe('scores of words that came are divided by it where positive, else multiplied'),
  do_sample: z.boolean().default(false).describe('draw words by their probability'),
  temperature: z.number().positive().default(1).describe('logits are divided by it before drawing'),
  top_k: z.number().int().min(0).default(50).describe('draw among so many words; 0: among all'),
  top_p: z.number().gt(0).max(1).default(1)
    .describe('draw among the fewest words of this probability together (nucleus)'),
  num_return_sequences: count.max(256).default(1).describe('texts for each prompt'),
  eos_token_id: tokens.nullable().optional().describe('words that end a text; the model\'s where absent, null: none'),
  pad_token_id: token.optional().describe('what stands behind the end; the model\'s where absent, else its end'),
  forced_bos_token_id: token.optional().describe('first word of an output of an encoder-decoder'),
  forced_eos_token_id: tokens.optional().describe('last word where a text reaches its length'),
});
export type GenerationOptions = z.input<typeof generationOptions>;

/** The options with all that was left open decided. */
export type GenerationSettings = Omit<z.output<typeof generationOptions>, 'eos_token_id' | 'pad_token_id'> & {
  ends: readonly number[];
  pad: number;
  /** Texts that are computed side by side for each prompt. */
  copies: number;
};

/**
 * @throws ScionError of kind `usage` that names every option that is wrong
 */
export function checkGenerationOptions(
  given: GenerationOptions,
  model: { vocabulary: number; endToken: number | undefined; padToken: number | undefined },
): GenerationSettings {
  const issues: Issue[] = [];
  const complain = (option: string, message: string): void => { issues.push({ path: option, message }); };
  const result = generationOptions.safeParse(given);
  for (const issue of result.error?.issues ?? []) {
    if (issue.code === 'unrecognized_keys') {
      const known = Object.keys(generationOptions.shape).join(', ');
      for (const key of issue.keys) complain(key, `there is no such option; known: ${known}`);
    } else {
      const value = JSON.stringify((given as Record<PropertyKey, unknown>)[issue.path[0]!]);
      complain(String(issue.path[0]), `is ${value}; ${issue.message.replace(/^Invalid input: /, '')}`);
    }
  }
  if (!result.success) throw new ScionError('usage', issues);
  const { eos_token_id: eos, pad_token_id, ...options } = result.data;
  const { num_beams: beams, num_return_sequences: returned, do_sample: sample } = options;
  const ends = eos === null ? [] : eos ?? (model.endToken === undefined ? [] : [model.endToken]);
  const pad = pad_token_id ?? model.padToken ?? ends[0] ?? 0;
  if (sample && beams > 1) {
    complain('do_sample', `true with num_beams ${beams}: beams are not drawn; take num_beams 1, or do_sample false`);
  }
  if (!sample && returned > beams) {
    complain('num_return_sequences',
      `is ${returned}, expected at most num_beams ${beams}; take as many beams, or do_sample`);
  }
  const { forced_bos_token_id, forced_eos_token_id } = options;
  const asked = { eos_token_id: ends, pad_token_id: pad, forced_bos_token_id, forced_eos_token_id };
  for (const [option, ids] of Object.entries(asked)) for (const id of [ids ?? []].flat()) {
    if (id < model.vocabulary) continue;
    complain(option, `${id} is no token of a vocabulary of ${model.vocabulary}; take ids of the model's tokenizer`);
  }
  const each = keptBeams({ num_beams: 1, ends });
  if (each * beams > model.vocabulary) {
    const most = Math.floor(model.vocabulary / each);
    complain('num_beams', `${beams} for a vocabulary of ${model.vocabulary}; take ${most} or fewer`);
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
  return { ...options, ends, pad, copies: sample ? returned : beams };
}

/** Words at most that follow the shortest prompt. */
export const mostNewTokens = ({ max_new_tokens: most, max_length: all }: GenerationSettings): number =>
  most ?? (all === undefined ? 20 : all - 1);

/** The length at which all texts end, prompts with them, of which the longest has `start` tokens. */
export const endOf = (settings: GenerationSettings, start: number): number =>
  (settings.max_new_tokens === undefined && settings.max_length !== undefined
    ? settings.max_length : start + mostNewTokens(settings));
