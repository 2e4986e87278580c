import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../hub/checkpoint.js';
import { loadBackbone } from './index.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/clip/', import.meta.url));

describe('the table of backbones', () => {
  test.each([
    ['pictures/model', 16, 24],
    ['quick-gelu', undefined, undefined],
    ['openai-vit', undefined, undefined],
    ['openai-resnet', undefined, undefined],
  ])('%s is loaded', async (name, size, length) => {
    const checkpoint = await readCheckpoint(join(fixtures, name));
    const { imageSize, textLength } = loadBackbone(checkpoint);
    if (size !== undefined) expect({ imageSize, textLength }).toEqual({ imageSize: size, textLength: length });
    expect([imageSize, textLength].every((n) => Number.isInteger(n) && n > 0)).toBe(true);
  });

  test.each([
    [{ model_type: 'siglip' }, 'model_type "siglip" is not supported; supported are clip'],
    [{ model_type: 'toString' }, 'model_type "toString" is not supported'],
    [{}, 'has no model_type; supported are clip'],
    [null, 'has no model_type'],
    [undefined, 'there is no such file; supported are clip'],
  ])('a config.json of %j is refused', async (config, message) => {
    const { tensors } = await readCheckpoint(join(fixtures, 'quick-gelu'));
    expect(() => loadBackbone({ path: 'model', config, tensors })).toThrow(message);
  });
});
