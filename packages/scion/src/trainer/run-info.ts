/** The content of `run.json`. */
import { z } from 'zod';
import { type ModelDtype, fileSuffixes } from '../onnx/dtypes.js';
import { inputError } from '../util/errors.js';

/** Raised where an older Scion could not read a run any more. */
export const runFormat = 1;

const score = z.object({ accuracy: z.number(), loss: z.number() });

/** What every run has, whatever its task. */
const base = {
  format: z.literal(runFormat),
  scion: z.string(),
  created: z.string(),
  state: z.enum(['running', 'finished']),
  method: z.string(),
  recipe: z.record(z.string(), z.unknown()),
  environment: z.record(z.string(), z.string()),
  warnings: z.array(z.string()),
};
/** Of a finished run: what every one has. */
const outcome = {
  config: z.record(z.string(), z.unknown()),
  epoch: z.number(),
  trainable_parameters: z.number(),
  seconds: z.number(),
  validation: score.optional(),
};

const runInfo = z.object({
  ...base,
  features: z.object({ path: z.string(), digest: z.string(), model: z.string().optional() }),
  /** Where the features were computed from pictures. */
  pictures: z
    .object({
      data: z.string(),
      /** `revision`: the commit of a model of the hub; `dtype`: the precision of its ONNX files;
       * `adapter`: the folder of the PEFT adapter that was added to its weights. */
      model: z.object({
        name: z.string(), path: z.string(), digest: z.string(), revision: z.string().exactOptional(),
        dtype: z.enum(Object.keys(fileSuffixes) as [ModelDtype, ...ModelDtype[]]).exactOptional(),
        adapter: z.string().exactOptional(),
      }),
      preprocessing: z.record(z.string(), z.unknown()),
      prompts: z.array(z.array(z.string())),
      views: z.number(),
      view_seed: z.number(),
      flip: z.boolean(),
      left_out: z.array(z.string()),
    })
    .optional(),
  class_names: z.array(z.string()).min(2),
  dim: z.number().int().positive(),
  logit_scale: z.number().positive(),
  /** Classes that came or went after the training, the latest last. */
  class_changes: z
    .array(z.object({ change: z.enum(['added', 'removed']), class: z.string(), pictures: z.number(), at: z.string() }))
    .optional(),
  validation: z.enum(['holdout', 'kfold', 'none']),
  /** Of a finished run. */
  result: z
    .object({
      ...outcome,
      /** Of calibrated probabilities; `raw_*` before calibration. */
      test: score
        .extend({ ece: z.number(), rows: z.number(), raw_loss: z.number().optional(), raw_ece: z.number().optional() })
        .optional(),
      /** Absent where there were no validation rows. */
      calibration: z
        .object({
          temperature: z.number().positive(),
          confidence: z.array(z.number()).length(101),
          rows: z.number(),
        })
        .optional(),
    })
    .optional(),
});
export type RunInfo = z.output<typeof runInfo>;

const modelInfo = { name: z.string(), path: z.string(), digest: z.string(), revision: z.string().exactOptional() };
const metrics = z.record(z.string(), z.number());

/** Of tasks with pictures and words. */
const languageRunInfo = z.object({
  ...base,
  task: z.enum(['vqa', 'caption']),
  data: z.object({ path: z.string(), digest: z.string() }),
  models: z.object({ images: z.object(modelInfo).exactOptional(), text: z.object(modelInfo) }),
  /** What is seen of a picture. */
  sight: z.object({ tokens: z.number(), dim: z.number(), prefix: z.boolean() }).exactOptional(),
  /** Answers to choose among, where they are not written. */
  answers: z.array(z.string()).exactOptional(),
  /** Tokens of the longest text of the training. */
  length: z.number().int().positive(),
  result: z.object({ ...outcome, test: z.object({ examples: z.number(), metrics }).optional() }).optional(),
});
export type LanguageRunInfo = z.output<typeof languageRunInfo>;
export type AnyRunInfo = RunInfo | LanguageRunInfo;

/** @throws ScionError where the text is no run of classes, or of a newer Scion */
export function parseRunInfo(text: string, file: string): RunInfo {
  const value = parseJson(text, file);
  const { task } = value;
  if (task !== undefined) {
    throw inputError(file, `is a run of the task ${JSON.stringify(task)}, not of classes; ask it with scion eval, `
      + 'scion predict RUN IMAGE --question, or scion caption');
  }
  return parsed(runInfo, value, file);
}

/** @throws ScionError where the text is no run of a task with words, or of a newer Scion */
export function parseLanguageRunInfo(text: string, file: string): LanguageRunInfo {
  const value = parseJson(text, file);
  if (value.task === undefined) {
    throw inputError(file, 'is a run of classes, which answers no questions and writes no captions; use scion predict');
  }
  return parsed(languageRunInfo, value, file);
}

/** The task of a run; undefined for classes. */
export const parseTask = (text: string, file: string): unknown => parseJson(text, file).task;

function parseJson(text: string, file: string): { task?: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw inputError(file, 'is not JSON; the run folder is damaged, train again', { cause });
  }
  const { format } = (value ?? {}) as { format?: unknown };
  if (typeof format === 'number' && format > runFormat) {
    throw inputError(file, `has format ${format}, this Scion reads up to ${runFormat}; update scion-peft`);
  }
  return value ?? {};
}

function parsed<T extends z.ZodType>(schema: T, value: unknown, file: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [problem] = result.error.issues;
  throw inputError(
    file,
    `${problem!.path.join('.') || 'content'}: ${problem!.message}; the run folder is damaged, train again`,
  );
}
