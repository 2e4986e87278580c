import { expect, test } from 'vitest';
import { readCheckpoint } from '../hub/checkpoint.js';
import { ScionError } from '../util/errors.js';
import { fixtures } from './testing/reference.js';
import { loadTextModel, textModelTypes } from './text-models.js';
import type { Checkpoint } from './weights.js';

const failure = (checkpoint: Checkpoint): unknown => {
  try {
    return loadTextModel(checkpoint);
  } catch (error) {
    return error;
  }
};

test.each([
  [{ model_type: 'xlm-roberta' }, 'model_type "xlm-roberta" is not supported'],
  [{ model_type: 'clip' }, 'model_type "clip" is not supported'],
  // a name that every object has
  [{ model_type: 'constructor' }, 'model_type "constructor" is not supported'],
  [{ model_type: ['bert'] }, 'model_type ["bert"] is not supported'],
  [{ hidden_size: 24 }, 'has no model_type'],
  [null, 'has no model_type'],
  [undefined, 'there is no such file'],
])('a config.json of %j is refused with what is supported', async (config, fault) => {
  const checkpoint = await readCheckpoint(`${fixtures}bert/model`);
  const error = failure({ ...checkpoint, config }) as ScionError;
  expect(error).toBeInstanceOf(ScionError);
  expect(error.kind).toBe('input');
  expect(error.issues).toEqual([
    { path: `${checkpoint.path}/config.json`, message: `${fault}; text models are roberta, bert, gpt2, bart` }]);
});

test.each([
  ['roberta/model', 'encoder'], ['bert/model', 'encoder'], ['gpt2/base', 'decoder'], ['bart/base', 'encoder-decoder'],
])('%s is a text model of kind %s', async (folder, kind) => {
  const checkpoint = await readCheckpoint(fixtures + folder);
  expect(textModelTypes).toContain((checkpoint.config as { model_type: string }).model_type);
  expect(loadTextModel(checkpoint).kind).toBe(kind);
});
