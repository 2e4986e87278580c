/**
 * A finished run of a task with words as files that other programs load: the encoder of pictures and the adapted text
 * model as plain ONNX, or a captioner for transformers.js.
 */
import { basename } from 'node:path';
import { imageProcessorConfig } from '../data/image-processor-config.js';
import { VisionText } from '../nn/vision-text.js';
import { opset } from '../onnx/encode.js';
import { mergedWeights, unmergeable } from '../peft/index.js';
import type { Runtime, Tensors } from '../runtime/session.js';
import type { LanguageModels } from '../trainer/language/model.js';
import { makerOf, padOf } from '../trainer/language/model.js';
import type { LanguageRecipe, LanguageTask } from '../trainer/language/recipe.js';
import { type LanguageRunOptions, openRunModels, readLanguageRun, storedRecipe } from '../trainer/language/run.js';
import type { LanguageRunInfo } from '../trainer/run-info.js';
import { usageError } from '../util/errors.js';
import { toFloat32 } from '../util/tensor.js';
import { type ExportTarget, type WeightOptions, checkTarget, explainFixedSize, loading, writeExport } from './draft.js';
import { type OpenProgram, answerProgram, captionerProgram, pictureProgram, writerProgram } from './language-graphs.js';
import { readme } from './language-readme.js';
import { type UnwrittenModel, inferenceModel } from './model.js';

export interface LanguageExportOptions extends WeightOptions,
  Pick<LanguageRunOptions, 'model' | 'revision' | 'openBackbone' | 'openTextModel' | 'signal' | 'onWarning'> {
  /** `onnx`, or for captions `transformers.js`. */
  to: ExportTarget;
  /** Whether an adapter is added to the weights where it can be; otherwise its products stand in the graph. Default true. */
  merge?: boolean | undefined;
}

export interface ExportedLanguageRun {
  folder: string;
  task: LanguageTask;
  /** Paths below the folder. */
  files: string[];
}

interface Source {
  path: string;
  info: LanguageRunInfo;
  recipe: LanguageRecipe;
  models: LanguageModels;
  model: VisionText;
}

const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json'];

/**
 * Writes a run of the task vqa or caption into a new folder, which appears whole.
 * @throws ScionError: a run or model that is not there or damaged, a target that cannot do the task, a folder with content
 */
export async function exportLanguageRun(
  path: string, folder: string, options: LanguageExportOptions,
): Promise<ExportedLanguageRun> {
  const { to, dtypes = ['fp32'] } = options;
  checkTarget(to, dtypes);
  const { info, values } = await readLanguageRun(path);
  const { task } = info;
  if (to === 'peft') {
    throw usageError('--to', `peft: ${path} is a run of the task ${task}, whose model Python's PEFT does not know; use onnx`);
  }
  if (to === 'transformers.js' && (task !== 'caption' || !info.sight)) {
    throw usageError('--to', `transformers.js: it has no pipeline that ${task === 'vqa' ? 'answers questions about pictures'
      : 'writes captions without seeing the picture'}; use onnx`);
  }
  const recipe = storedRecipe(path, info, options);
  const { models, model: adapted } = await openRunModels(path, info, values, recipe, options);
  const model = await settled(adapted, models, values, options.merge ?? true);
  const source = { path, info, recipe, models, model };
  const files = await writeExport(folder, options, async (draft) => {
    const program = (file: string, name: string, { build, axes }: OpenProgram): Promise<void> =>
      draft.models(file, (runtime: Runtime): Promise<UnwrittenModel> =>
        explainFixedSize(path, name, () => inferenceModel(build, axes, runtime, task)));
    const { images, text } = models;
    const kind = recipe.visual === 'patches' ? 'patches' : 'pooled';
    if (to === 'transformers.js') {
      await program('onnx/encoder_model', images!.name, pictureProgram(images!, kind, 'last_hidden_state'));
      await program('onnx/decoder_model_merged', text.name, captionerProgram(model, promptOf(source)));
    } else {
      if (images) await program('vision_model', images.name, pictureProgram(images, kind, 'visual'));
      await program('model', text.name, info.answers ? answerProgram(model) : writerProgram(model));
      await draft.text('README.md', readme({
        task, answers: info.answers, decodes: model.text.kind === 'decoder',
        processor: images?.processor, prompt: promptOf(source), beams: recipe.generation.num_beams,
      }));
    }
    if (images) await draft.json('preprocessor_config.json', imageProcessorConfig(images.processor));
    if (!info.answers) await draft.json('generation_config.json', generationConfig(source, to));
    await draft.json('config.json', {
      ...(to === 'transformers.js' ? { ...visionEncoderDecoder(source), 'transformers.js_config': loading(dtypes, draft.external) } : {}),
      ...(info.answers && {
        id2label: Object.fromEntries(info.answers.map((answer, k) => [k, answer])),
        label2id: Object.fromEntries(info.answers.map((answer, k) => [answer, k])),
      }),
      scion: about(source),
    });
    await draft.copy(text.folder, tokenizerFiles);
  });
  return { folder, task, files };
}

/**
 * The adapted model with the values of the training in it. An adapter that is a change of weights is added to those of the
 * text model where nothing else was adapted.
 */
async function settled(adapted: VisionText, { text }: LanguageModels, values: Tensors, merge: boolean): Promise<VisionText> {
  if (!merge || unmergeable(adapted.text).length > 0) return adapted.freeze(values);
  const plain = new VisionText(text.fresh(), adapted.sight, adapted.head);
  const known = [...plain.parameters()].every(([name, { origin }]) => origin.kind !== 'trained' || name in values);
  const changes = [...adapted.text.parameters()].some(([, { origin }]) => origin.kind === 'trained');
  if (!known || !changes) return adapted.freeze(values);
  return plain.fix(await mergedWeights(adapted.text, text, (name) => toFloat32(values[name]!))).freeze(values);
}

/** What is read before the first word is written, where nothing is asked. */
const promptOf = ({ models: { text }, model, recipe }: Source): readonly number[] =>
  makerOf(text, model, recipe.max_length).prompt(undefined);

/** What transformers.js has besides: one word after the other, chosen or drawn. */
const beamOptions = new Set(['num_beams', 'length_penalty', 'early_stopping']);

function generationConfig(source: Source, to: ExportTarget): Record<string, unknown> {
  const { model: { text }, recipe: { generation } } = source;
  const options = Object.fromEntries(Object.entries(generation).filter(([name]) => to === 'onnx' || !beamOptions.has(name)));
  return {
    bos_token_id: text.beginToken, eos_token_id: text.endToken, pad_token_id: padOf(text),
    decoder_start_token_id: text.kind === 'encoder-decoder' ? text.decoderStart : promptOf(source)[0],
    ...options,
  };
}

/** As transformers.js loads a captioner. Of the decoder it wants to know what it keeps, which is one tensor here. */
function visionEncoderDecoder({ model: { text } }: Source): Record<string, unknown> {
  return {
    architectures: ['VisionEncoderDecoderModel'], model_type: 'vision-encoder-decoder', is_encoder_decoder: true,
    decoder: { model_type: 'gpt2', n_layer: 1, n_head: 1, n_embd: text.width },
  };
}

function about({ info, models: { images, text }, model, recipe }: Source): Record<string, unknown> {
  return {
    version: info.scion, task: info.task, method: info.method, opset,
    ...(images && { backbone: basename(images.name), backbone_sha256: images.digest }),
    text_model: basename(text.name), text_model_sha256: text.digest,
    visual: recipe.visual, max_length: Math.min(model.positions, recipe.max_length ?? model.positions),
  };
}
