/** The content of `run.json`. */
import { z } from 'zod';
import { type ModelDtype, fileSuffixes } from '../onnx/dtypes.js';
import { inputError } from '../util/errors.js';

/** Raised where an older Scion could not read a run any more. */
export const runFormat = 1;

const score = z.object({ accuracy: z.number(), loss: z.number() });

const runInfo = z.object({
  format: z.literal(runFormat),
  scion: z.string(),
  created: z.string(),
  state: z.enum(['running', 'finished']),
  method: z.string(),
  recipe: z.record(z.string(), z.unknown()),
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
  environment: z.record(z.string(), z.string()),
  validation: z.enum(['holdout', 'kfold', 'none']),
  warnings: z.array(z.string()),
  /** Of a finished run. */
  result: z
    .object({
      config: z.record(z.string(), z.unknown()),
      epoch: z.number(),
      trainable_parameters: z.number(),
      seconds: z.number(),
      validation: score.optional(),
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

export function parseRunInfo(text: string, file: string): RunInfo {
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
  const result = runInfo.safeParse(value);
  if (result.success) return result.data;
  const [problem] = result.error.issues;
  throw inputError(
    file,
    `${problem!.path.join('.') || 'content'}: ${problem!.message}; the run folder is damaged, train again`,
  );
}
