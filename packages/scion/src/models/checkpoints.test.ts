import { expect, test } from 'vitest';
import { parseModelId } from '../hub/model-id.js';
import { publicCheckpoints } from './checkpoints.js';
import { modelTypes } from './index.js';

test('checkpoints are those of supported architectures, without another list to keep', () => {
  expect(publicCheckpoints().length).toBeGreaterThan(2);
  expect(publicCheckpoints().filter(({ architecture }) => !modelTypes.includes(architecture))).toEqual([]);
  expect(publicCheckpoints(['siglip']).map(({ id }) => id.split('/')[0])).toEqual(['google', 'google']);
  expect(publicCheckpoints([])).toEqual([]);
});

test('every one is a name on the hub, with the size of float32 weights', () => {
  for (const { id, parameters, bytes } of publicCheckpoints(['clip', 'siglip'])) {
    expect(parseModelId(id)).toEqual({ id });
    expect(Math.abs(bytes / (4 * parameters) - 1), id).toBeLessThan(0.01);
  }
});
