/** Prompts, contexts and prefixes against PyTorch: tools/make-prompt-fixtures.py. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { readSafetensors } from '../formats/safetensors-node.js';
import * as f from '../nn/functional.js';
import { expectClose, testRuntime } from '../models/testing/reference.js';
import { int64 } from '../util/tensor.js';
import type { BackboneMethod, PromptWords } from './backbone-method.js';
import { prefixTuning } from './prefix-tuning/index.js';
import { promptTuning } from './prompt-tuning/index.js';
import { adapted, fixtures, objective } from './testing/adapted.js';

const runtime = testRuntime();
const methods: Record<string, BackboneMethod> = { 'prompt-tuning': promptTuning, 'prefix-tuning': prefixTuning };

/** Marks 48 and 37 as the files' texts have them; no words are needed beside, since the ids are given. */
const words: PromptWords = {
  classNames: [], prompts: [], length: 9,
  tokenize: (texts) => int64([texts.length, 9], texts.flatMap((text) => {
    const ids = [48, ...Array<number>(text.replaceAll(' ', '').length).fill(5)];
    return [...ids, ...Array<number>(9 - ids.length).fill(37)];
  })),
};

const files = readdirSync(`${fixtures}prompts`);
test('there are files for every method and tower', () => expect(files.length).toBe(11));

test.each(files)('%s: features and gradients of PyTorch', async (file) => {
  const { tensors, metadata } = await readSafetensors(`${fixtures}prompts/${file}`);
  const want = (name: string) => tensors.get(name)!;
  const { model: folder, method, config } = JSON.parse(metadata['settings']!) as {
    model: string; method: string; config: object;
  };
  const { model, initial } = await adapted(methods[method]!, folder, config, words);
  const names = [...tensors.keys()].filter((name) => name.startsWith('grad.'));
  expect(names.sort()).toEqual(Object.keys(initial).map((name) => `grad.${name}`).sort());
  const input = tensors.has('images') ? 'images' : 'ids';
  const got = await objective(runtime, (graph) => {
    const given = graph.input(input, want(input).dtype, want(input).shape);
    const features = input === 'images' ? model.imageFeatures(given) : model.textFeatures(given);
    graph.output('features', features);
    const cotangent = graph.input('cotangent', 'float32', want('cotangent').shape);
    return f.reduceSum(f.mul(features, cotangent));
  }, { [input]: want(input), cotangent: want('cotangent') }, Object.fromEntries(
    Object.keys(initial).map((name) => [name, want(name)])));
  expectClose(got.features, want('features'), 'features', 1e-5);
  for (const name of names) expectClose(got[name], want(name), name, 1e-5);
});
