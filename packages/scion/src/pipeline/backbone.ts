/** A backbone with all that goes with it, from the name of a model. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseImageProcessor, readImageProcessor } from '../data/image-processor.js';
import { readTokenizer } from '../data/tokenizer.js';
import { readCheckpoint } from '../hub/checkpoint.js';
import { checkpointDigest } from '../hub/digest.js';
import { resolveModel } from '../hub/resolve.js';
import { loadBackbone } from '../models/index.js';
import type { OpenBackbone } from '../trainer/encode.js';
import { inputError } from '../util/errors.js';

/**
 * Opens a model: the name of a built-in one, the folder of a checkpoint, or its file of weights with the other files
 * beside it. Weights are not read yet.
 * @throws ScionError: a model that is not there, is damaged, or whose parts do not fit together
 */
export const openBackbone: OpenBackbone = async (model, { where, cache } = {}) => {
  const { name, path } = await resolveModel(model, where);
  const checkpoint = await readCheckpoint(path);
  const { folder } = checkpoint;
  const encoder = loadBackbone(checkpoint);
  const settings = join(folder, 'preprocessor_config.json');
  if (checkpoint.onnx && !existsSync(settings)) {
    throw inputError(settings, 'there is no such file, and an ONNX graph does not say how pictures are prepared; put '
      + 'the preprocessor_config.json of the exported model beside it, or into the folder above');
  }
  const processor = existsSync(settings)
    ? await readImageProcessor(settings)
    : parseImageProcessor({ size: encoder.imageSize, crop_size: encoder.imageSize }, settings);
  if (processor.height !== encoder.imageSize || processor.width !== encoder.imageSize) {
    throw inputError(
      settings,
      `makes pictures of ${processor.height} × ${processor.width}, the model takes ${encoder.imageSize} × ` +
        `${encoder.imageSize}; use the file of the same checkpoint`,
    );
  }
  const memory = cache === undefined ? undefined : join(cache, 'digests');
  return {
    name,
    path,
    digest: await checkpointDigest(checkpoint, folder, memory),
    encoder,
    processor,
    tokenizer: await readTokenizer(folder),
  };
};
