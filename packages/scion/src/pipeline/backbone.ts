/** A backbone with all that goes with it, from the name of a model. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { defaultImageProcessor, readImageProcessor } from '../data/image-processor.js';
import { type TextTokenizer, readTokenizer } from '../data/tokenizer.js';
import { readCheckpoint } from '../hub/checkpoint.js';
import { digestOfTensors } from '../formats/digest-node.js';
import { checkpointDigest } from '../hub/digest.js';
import { resolveModel } from '../hub/resolve.js';
import { type Backbone as BackboneModel, type DualBackbone, isDual, loadBackbone } from '../models/index.js';
import { vocabularySize } from '../models/vocabulary.js';
import { readParameter } from '../nn/parameter-values.js';
import { peftWeights } from '../peft/index.js';
import type { OpenBackbone } from '../trainer/encode.js';
import { inputError } from '../util/errors.js';

/**
 * Opens a model: the name of a built-in one, the folder of a checkpoint, its file of weights with the other files beside
 * it (of ONNX files in the precision `dtype`), or `org/name[@revision]` of the hub, which is downloaded unless it is in
 * the cache. Weights are not read yet, but those that `adapter` changes.
 * @throws ScionError: a model or an adapter that is not there, is damaged, or whose parts do not fit together
 */
export const openBackbone: OpenBackbone = async (model, { cache, dtype, adapter, ...options } = {}) => {
  const { name, path, revision } = await resolveModel(model, options);
  const checkpoint = await readCheckpoint(path, { dtype });
  const { folder } = checkpoint;
  const changed = adapter === undefined ? undefined
    : await peftWeights(loadBackbone(checkpoint), adapter, { read: readParameter });
  const fresh = (): BackboneModel => (changed ? loadBackbone(checkpoint).fix(changed) : loadBackbone(checkpoint));
  const encoder = fresh();
  const settings = join(folder, 'preprocessor_config.json');
  if (checkpoint.onnx && !existsSync(settings)) {
    throw inputError(settings, 'there is no such file, and an ONNX graph does not say how pictures are prepared; put '
      + 'the preprocessor_config.json of the exported model beside it, or into the folder above');
  }
  const processor = existsSync(settings)
    ? await readImageProcessor(settings, encoder.imageProcessor)
    : defaultImageProcessor(encoder.imageProcessor, encoder.imageSize, settings);
  const { imageSize, leastSize } = encoder;
  const { height, width } = processor;
  const fits = leastSize === undefined ? height === imageSize && width === imageSize : Math.min(height, width) >= leastSize;
  if (!fits) {
    const size = leastSize ?? imageSize;
    throw inputError(
      settings,
      `makes pictures of ${height} × ${width}, the model takes ${size} × ${size}` +
        `${leastSize === undefined ? '' : ' and larger ones'}; use the file of the same checkpoint`,
    );
  }
  const digest = await checkpointDigest(checkpoint, folder, cache === undefined ? undefined : join(cache, 'digests'));
  return {
    name,
    path,
    folder,
    ...(revision === undefined ? {} : { revision }),
    ...(dtype === undefined ? {} : { dtype }),
    ...(adapter === undefined ? {} : { adapter: resolve(adapter) }),
    ...(changed && { changed }),
    digest: changed ? digestOfTensors(changed, digest) : digest,
    encoder,
    fresh,
    read: readParameter,
    processor,
    ...(isDual(encoder) ? { text: { encoder, tokenizer: await tokenizerOf(folder, encoder) } } : {}),
  };
};

const tokenizerOf = (folder: string, encoder: DualBackbone): Promise<TextTokenizer> =>
  readTokenizer(folder, {
    readsPadding: encoder.readsPadding, endToken: encoder.endToken, vocabularySize: vocabularySize(encoder),
  });
