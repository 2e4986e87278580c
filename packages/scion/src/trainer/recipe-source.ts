/** The part of a recipe that says where features come from: a feature file, or pictures and a backbone. */
import { z } from 'zod';
import { templateSets } from '../data/prompts.js';
import { type ModelDtype, fileSuffixes } from '../onnx/dtypes.js';
import type { Issue } from '../util/errors.js';
import { parse } from './parse.js';

const sets = Object.keys(templateSets) as [keyof typeof templateSets, ...(keyof typeof templateSets)[]];
const templates = z.union(
  [z.enum(sets), z.array(z.string().min(1)).min(1)],
  `expected ${sets.join(' or ')}, or a list of templates such as "a photo of a {}."`,
);
/** Keys that mean something for pictures only. Defaults are filled in by `pictureDefaults`. */
const ofPictures = {
  model: z.string().min(1).optional()
    .describe('built-in model, folder of a checkpoint, .onnx file, or org/name[@revision] on the hub, see scion models (default picto)'),
  revision: z.string().min(1).optional().describe('branch, tag or commit of a model of the hub (default main)'),
  model_dtype: z.enum(Object.keys(fileSuffixes) as [ModelDtype, ...ModelDtype[]]).optional()
    .describe('precision of a folder of ONNX files as transformers.js names it: fp32, fp16, q8, int8, uint8, q4, … (default fp32)'),
  adapter: z.string().min(1).optional()
    .describe("folder of a LoRA adapter of Python's PEFT that belongs to the model"),
  templates: templates.optional().describe(`a set of prompts: ${sets.join(' or ')} (default name for picto, else photo)`),
  descriptions: z.string().min(1).optional().describe('JSON with texts by class, as further prompts'),
  views: z
    .number()
    .int()
    .min(1)
    .max(1000)
    .optional()
    .describe('of each training picture: the plain one and random parts of it (default 1)'),
  view_seed: z
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .optional()
    .describe('of the random views (default 1)'),
  flip: z.boolean().optional().describe('whether half of the random views are mirrored (default true)'),
  skip_bad: z.boolean().optional().describe('leave out pictures that cannot be read, instead of stopping'),
  cache: z.boolean().optional().describe('whether features are kept for the next time (default true)'),
};
export const sourceFields = {
  features: z.string().min(1).optional().describe('feature file (.safetensors, or .json beside .npy files)'),
  data: z.string().min(1).optional().describe('pictures: a folder with a folder per class, or a manifest'),
  ...ofPictures,
};
export type RecipeSource = { [K in keyof typeof sourceFields]?: z.output<(typeof sourceFields)[K]> };

/** What the words of a recipe about pictures mean where it says nothing. */
export const pictureDefaults = { views: 1, view_seed: 1, flip: true, skip_bad: false, cache: true } as const;

/** A recipe takes a feature file or pictures, and words about pictures only with pictures. */
export function sourceIssues(input: unknown): Issue[] {
  const given = new Set(Object.entries(input ?? {}).flatMap(([key, value]) => (value === undefined ? [] : [key])));
  if (given.has('features') && given.has('data')) {
    return [{ path: 'data', message: 'is given beside features; name pictures or a feature file, not both' }];
  }
  if (given.has('data')) {
    return given.has('revision') && !given.has('model')
      ? [{ path: 'revision', message: 'is of a model of the hub; name it with model, or leave the revision out' }] : [];
  }
  if (!given.has('features')) {
    return [{ path: 'features', message: 'missing: name a feature file here, or pictures with --data' }];
  }
  return Object.keys(ofPictures)
    .filter((key) => given.has(key))
    .map((path) => ({ path, message: 'is for pictures (--data), not for a feature file; leave it out' }));
}

const source = z.strictObject({ ...ofPictures, data: z.string().min(1) });
export type PictureInput = z.input<typeof source>;

/** All that is wrong with words about pictures alone. */
export function pictureIssues(input: PictureInput): Issue[] {
  const issues: Issue[] = [];
  parse(source, input, '', issues);
  return issues;
}
