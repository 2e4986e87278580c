/** A text model with all that goes with it, from its name. */
import { join } from 'node:path';
import { readWordTokenizer } from '../data/tokenizer.js';
import { readCheckpoint } from '../hub/checkpoint.js';
import { checkpointDigest } from '../hub/digest.js';
import { resolveModel } from '../hub/resolve.js';
import { loadTextModel } from '../models/text-models.js';
import { readParameter } from '../nn/parameter-values.js';
import type { OpenTextModel } from '../trainer/language/model.js';

/**
 * Opens a model of texts: the name of a built-in one, the folder of a checkpoint, or `org/name[@revision]` of the hub,
 * which is downloaded unless it is in the cache. Weights are not read yet.
 * @throws ScionError: a model that is not there, is damaged, or whose parts do not fit together
 */
export const openTextModel: OpenTextModel = async (model, { cache, ...options } = {}) => {
  const { name, path, revision } = await resolveModel(model, options);
  const checkpoint = await readCheckpoint(path);
  const { folder } = checkpoint;
  const { kind, vocabulary } = loadTextModel(checkpoint);
  return {
    name, path, folder, kind,
    ...(revision === undefined ? {} : { revision }),
    digest: await checkpointDigest(checkpoint, folder, cache === undefined ? undefined : join(cache, 'digests')),
    tokenizer: await readWordTokenizer(folder, { vocabularySize: vocabulary }),
    fresh: () => loadTextModel(checkpoint),
    read: readParameter,
  };
};
