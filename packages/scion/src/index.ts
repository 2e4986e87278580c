/** Scion: adapt a frozen vision-language model to your own images and words. The package's public exports. */
export {
  addClass, compare, compareLanguage, describeRecipe, encodePictures, exportRun, loadLanguageRun, loadRun, openRuns, resume, resumeLanguage, train,
  trainLanguage,
} from './pipeline/index.js';
export { openTextModel } from './pipeline/text-model.js';
export {
  type LanguageComparisonInput, type LanguageRecipeInput, type LanguageTask, describeLanguageField, isLanguageTask,
  resolveLanguageComparison, resolveLanguageRecipe,
} from './trainer/language/recipe.js';
export type {
  Answered, Captioned, LanguageEvaluation, LanguageRun, LanguageRunOptions,
} from './trainer/language/run.js';
export type { LanguageCell, LanguageCompareOptions, LanguageComparisonResult } from './trainer/language/compare.js';
export type { LanguageTrainOptions } from './trainer/language/train.js';
export { taskOf } from './trainer/run-folder.js';
export { openBackbone } from './pipeline/backbone.js';
export { type MergeOptions, type MergedModel, mergeModel } from './pipeline/merge.js';
export type { CompareOptions, ComparisonCell, ComparisonDataset, ComparisonResult } from './trainer/compare.js';
export {
  type ExportOptions, type ExportTarget, type ExportTask, type ExportedRun, exportTargets, exportTasks,
} from './export/run.js';
export { type WeightFormat, weightFormats } from './export/weights.js';
export { type AddedClass, type ChangedRun, removeClasses } from './trainer/classes.js';
export { checkRuntime, offeredDevices } from './trainer/check-runtime.js';
export { type ProgramDescription, describeRun } from './trainer/describe.js';
export type { Backbone, DualEncoder, OpenBackbone } from './trainer/encode.js';
export type { Checkpoint, Metric, Score } from './trainer/descend.js';
export { type FileParity, type TensorParity, checkParity, tolerance as parityTolerance } from './trainer/parity.js';
export type { EncodedPictures, SourceOptions } from './trainer/pictures.js';
export { type ComparisonInput, type RecipeInput, describeField, resolveComparison, resolveRecipe } from './trainer/recipe.js';
export { type PictureInput, pictureIssues } from './trainer/recipe-source.js';
export type { Evaluation, ImagePrediction, PredictOptions, Prediction, Run } from './trainer/run.js';
export { type RunSet, type RunSetOptions } from './trainer/run-set.js';
export { type LanguageRunInfo, type RunInfo } from './trainer/run-info.js';
export type { RunOptions } from './trainer/run-pictures.js';
export { type TrainOptions, environment, version } from './trainer/train.js';
export { type ClassificationReport } from './tasks/classification.js';
export {
  type FeatureContent, type FeatureFile, type PredictionFeatures, type RowGroups, type Split, readFeatureFile, readPredictionFeatures,
  writeFeatureFile,
} from './data/feature-file.js';
export { cacheFolder } from './data/cache-folder.js';
export { type ImageDataset, readDataset } from './data/dataset.js';
export { type ImageProcessor, parseImageProcessor, readImageProcessor } from './data/image-processor.js';
export { makePrompts, readDescriptions, templateSets } from './data/prompts.js';
export { type TextTokenizer, readTokenizer } from './data/tokenizer.js';
export { readCheckpoint } from './hub/checkpoint.js';
export { readOnnxModel } from './hub/onnx-files.js';
export type { BuildOptions, ImportedModel, LayerCall, ReplaceLayer, StoredConstant } from './onnx/import.js';
export type { ImportedLinear, ImportedNorm } from './onnx/layers.js';
export { isBuiltInData, suites } from './data/suites.js';
export { type WorldCounts, type WorldOptions, generateWorld } from './data/pictoworld/index.js';
export { type ResolveOptions, type ResolvedModel, builtInModels, modelFrom, resolveModel } from './hub/resolve.js';
export { type HubSettings, hubSettings } from './hub/settings.js';
export { type Clip, loadClip } from './models/clip/model.js';
export { newBart } from './models/bart/index.js';
export { newGpt2 } from './models/gpt2/index.js';
export { newRoberta } from './models/roberta/index.js';
export { type PictoClip, type PictoConfig, loadPicto, newPictoClip } from './models/picto/index.js';
export {
  type CausalBatch, type ContrastiveBatch, type MaskedBatch, type Objective, causalLanguageModelling, contrastive, maskedLanguageModelling,
} from './trainer/objectives.js';
export { type PretrainOptions, type PretrainScore, pretrain } from './trainer/pretrain.js';
export { type Backbone as BackboneModel, loadBackbone, modelTypes } from './models/index.js';
export { loadTextModel, textModelTypes } from './models/text-models.js';
export type { EncoderDecoder, TextDecoder, TextEncoder, TextModel } from './models/text.js';
export {
  type Condition, type Generated, type GenerationOptions, type GenerationSource, type Generator, type GeneratorOptions,
  generationOptions, openGenerator,
} from './trainer/generate/index.js';
export { type PublicCheckpoint, archives, publicCheckpoints } from './models/checkpoints.js';
export { type FeatureMethod, getMethod, methodNames } from './peft/index.js';
export { bytesInWords } from './util/bytes.js';
export { readParameter } from './nn/parameter-values.js';
export { type LoraConfig, attachLora, loraConfig } from './peft/lora/index.js';
export { readPeftAdapter, writePeftAdapter } from './peft/python/folder.js';
export { type PeftAdapter, fitAdapter, peftAdapterFiles } from './peft/python/keys.js';
export { type Issue, ScionError, inputError, ioError, unknownName, usageError } from './util/errors.js';
export { type Tensor, float32, fromFloat64, int64, tensor, toFloat64 } from './util/tensor.js';
export { nodeRuntime } from './runtime/node.js';
export { type Device, devices } from './runtime/session.js';
export { writeAtomically } from './formats/files.js';
export { readSafetensors, writeSafetensors } from './formats/safetensors-node.js';
export { Random } from './util/random.js';
export { captionScores, type CaptionExample, type CaptionMetrics, type CaptionScores } from './tasks/captioning/metrics/caption-scores.js';
