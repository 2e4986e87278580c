import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../hub/checkpoint.js';
import { isDual, loadBackbone } from './index.js';

const fixtures = fileURLToPath(new URL('../../../../fixtures/', import.meta.url));

describe('the table of backbones', () => {
  test.each([
    ['clip/pictures/model', 'CLIPImageProcessor', 16, 24],
    ['clip/quick-gelu', 'CLIPImageProcessor', 12, 11],
    ['clip/openai-vit', 'CLIPImageProcessor', 12, 8],
    ['clip/openai-resnet', 'CLIPImageProcessor', 64, 8],
    ['siglip/sentencepiece', 'SiglipImageProcessor', 12, 16],
    ['siglip/gemma', 'SiglipImageProcessor', 14, 24],
    ['vit/model', 'ViTImageProcessor', 16, undefined],
    ['vit/classifier', 'ViTImageProcessor', 16, undefined],
    ['dinov2/interpolated', 'BitImageProcessor', 20, undefined],
    ['dinov2/swiglu', 'BitImageProcessor', 12, undefined],
  ])('%s is loaded', async (name, imageProcessor, imageSize, textLength) => {
    const backbone = loadBackbone(await readCheckpoint(join(fixtures, name)));
    expect(backbone).toMatchObject({ imageProcessor, imageSize });
    expect(isDual(backbone) ? backbone.textLength : undefined).toBe(textLength);
    expect(backbone.leastSize).toBe(name.startsWith('dinov2') ? 4 : undefined);
  });

  test.each([
    [{ model_type: 'siglip2' }, 'model_type "siglip2" is not supported; supported are clip, siglip, vit, dinov2'],
    [{ model_type: 'toString' }, 'model_type "toString" is not supported'],
    [{}, 'has no model_type; supported are clip'],
    [null, 'has no model_type'],
    [undefined, 'there is no such file; supported are clip'],
  ])('a config.json of %j is refused', async (config, message) => {
    const { tensors } = await readCheckpoint(join(fixtures, 'clip/quick-gelu'));
    expect(() => loadBackbone({ path: 'model', config, tensors })).toThrow(message);
  });
});
