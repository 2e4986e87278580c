/** Scion: adapt a frozen vision-language model to your own images and words. The package's public exports. */
export {
  type CompareOptions, type ComparisonCell, type ComparisonDataset, type ComparisonResult, compare,
} from './trainer/compare.js';
export { checkRuntime } from './trainer/check-runtime.js';
export { type ProgramDescription, describeRecipe, describeRun } from './trainer/describe.js';
export type { Checkpoint, Metric, Score } from './trainer/fit.js';
export { type FileParity, type TensorParity, checkParity, tolerance as parityTolerance } from './trainer/parity.js';
export { type ComparisonInput, type RecipeInput, describeField, resolveComparison, resolveRecipe } from './trainer/recipe.js';
export { type Prediction, type Run, loadRun } from './trainer/run.js';
export { type RunInfo } from './trainer/run-info.js';
export { type TrainOptions, environment, resume, train, version } from './trainer/train.js';
export { type ClassificationReport } from './tasks/classification.js';
export {
  type FeatureContent, type FeatureFile, type PredictionFeatures, type RowGroups, type Split, readFeatureFile, readPredictionFeatures,
  writeFeatureFile,
} from './data/feature-file.js';
export { type ImageDataset, readDataset } from './data/dataset.js';
export { type ImageProcessor, parseImageProcessor, readImageProcessor } from './data/image-processor.js';
export { makePrompts, readDescriptions, templateSets } from './data/prompts.js';
export { type TextTokenizer, readTokenizer } from './data/tokenizer.js';
export { readCheckpoint } from './hub/checkpoint.js';
export { type Clip, loadClip } from './models/clip/model.js';
export { type PictoClip, type PictoConfig, loadPicto, newPictoClip } from './models/picto/index.js';
export { type ContrastiveBatch, type PretrainOptions, type PretrainScore, pretrain } from './trainer/pretrain.js';
export { type DatasetEncoding, type DualEncoder, encodeDataset } from './trainer/encode.js';
export { type FeatureMethod, getMethod, methodNames } from './peft/index.js';
export { type Issue, ScionError, inputError, ioError, usageError } from './util/errors.js';
export { type Tensor, float32, fromFloat64, int64, tensor, toFloat64 } from './util/tensor.js';
export { nodeRuntime } from './runtime/node.js';
export { writeAtomically } from './formats/files.js';
export { readSafetensors, writeSafetensors } from './formats/safetensors-node.js';
export { Random } from './util/random.js';
