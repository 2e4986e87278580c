/** Recipes of questions and captions: their values, and what contradicts itself or belongs to the other kind. */
import { describe, expect, test } from 'vitest';
import { describeField, resolveRecipe, wordKeys } from '../recipe.js';
import { describeLanguageField, resolveLanguageRecipe } from './recipe.js';

const vqa = { task: 'vqa', data: 'world' };
const caption = { task: 'caption', data: 'world' };

test('what is not said has its usual value', () => {
  const { recipe, method } = resolveLanguageRecipe(vqa);
  expect(method.name).toBe('lora');
  expect(recipe).toMatchObject({
    text_model: 'picto-roberta', model: 'picto', visual: 'pooled', prefix: true, head: 'auto', answers: 3129, classifier_layers: 2,
    training: { optimizer: 'adamw', lr: 1e-3, schedule: 'linear', batch_size: 64 }, generation: { max_new_tokens: 24 },
  });
  expect(resolveLanguageRecipe(caption).recipe.text_model).toBe('picto-gpt');
});

test('targets wait for the model, unless they are named', () => {
  expect(resolveLanguageRecipe(vqa).recipe.config).not.toHaveProperty('target_modules');
  expect(resolveLanguageRecipe({ ...vqa, config: { target_modules: 'dense,query' } }).recipe.config.target_modules).toEqual(['dense', 'query']);
});

test('what was resolved is resolved again to the same', () => {
  const { recipe } = resolveLanguageRecipe({ ...caption, config: { r: 3 }, generation: { num_beams: 3 } });
  expect(resolveLanguageRecipe(recipe).recipe).toEqual(recipe);
});

test.each([
  ['a classifier of captions', { ...caption, head: 'classify' }, /head: classify: captions are written, not chosen/],
  ['a place for what is not seen', { ...vqa, visual: 'none', prefix: false }, /prefix: false: nothing is seen/],
  ['beams that are drawn', { ...caption, generation: { do_sample: true, num_beams: 2 } }, /generation.num_beams: 2: drawing goes with one beam/],
  ['a method of features', { ...vqa, method: 'linear-probe' }, /method: linear-probe works on features of classes; choose one/],
  ['a method of prompts', { ...vqa, method: 'coop' }, /method: coop learns the prompts of classes/],
  ['views of pictures', { ...vqa, training: { augment: true } }, /training.augment: is for classes of pictures/],
  ['weights of classes', { ...vqa, training: { class_weights: 'balanced' } }, /training.class_weights: is for classes of pictures/],
  ['keys of classes', { ...vqa, shots: 4, views: 2 }, /shots: is for classes of pictures.*use examples[^]*views: is for classes/],
  ['an unknown key', { ...vqa, vizual: 'none' }, /unknown key "vizual"; did you mean visual\?/],
  ['an unknown task', { ...vqa, task: 'qa' }, /task: "qa": expected one of/],
  ['no data', { task: 'vqa' }, /data: missing/],
  ['one answer', { ...vqa, answers: 1 }, /answers: 1: /],
])('refused: %s', (_, recipe, message) => {
  expect(() => resolveLanguageRecipe(recipe)).toThrow(message);
});

describe('recipes of classes', () => {
  test('refuse every key of the others, and these alone', () => {
    for (const key of wordKeys) {
      expect(describeLanguageField(key), key).not.toBe('');
      expect(() => resolveRecipe({ features: 'f', [key]: 1 })).toThrow(new RegExp(
        `${key}: ${key === 'task' ? 'such recipes are for scion train' : 'is for the tasks vqa and caption'}`));
    }
    expect(() => resolveRecipe({ features: 'f', generation: { top_k: 3 } })).toThrow(/generation.top_k: is for the tasks/);
    const shared = ['data', 'model', 'revision', 'skip_bad', 'cache', 'threads', 'device', 'method', 'config', 'training', 'seed'];
    expect(shared.filter((key) => wordKeys.includes(key))).toEqual([]);
    for (const key of shared) expect([describeField(key), describeLanguageField(key)], key).not.toContain('');
  });
});
