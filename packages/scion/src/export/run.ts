/**
 * A finished run as files that other programs load: plain ONNX, the folder of a model for transformers.js, or an adapter
 * of Python's PEFT.
 */
import { basename } from 'node:path';
import { imageProcessorConfig } from '../data/image-processor-config.js';
import { Graph, type Value } from '../ir/graph.js';
import * as f from '../nn/functional.js';
import { opset } from '../onnx/encode.js';
import type { FeatureModule } from '../peft/index.js';
import type { Backbone, TextTower } from '../trainer/encode.js';
import { type StoredRun, readRun, storedModule } from '../trainer/run.js';
import { type RunOptions, cacheOf, checkDim, openRunBackbone } from '../trainer/run-pictures.js';
import { ScionError, inputError, unknownName } from '../util/errors.js';
import { type ExportTarget, type WeightOptions, checkTarget, loading, explainFixedSize, writeExport } from './draft.js';
import { exportPeft } from './peft.js';
import { type Build, inferenceModel } from './model.js';
import type { OpenAxis } from './symbolic.js';
import type { WeightFormat } from './weights.js';

export interface ExportOptions extends Pick<RunOptions, 'model' | 'revision' | 'openBackbone'>, WeightOptions {
  to: ExportTarget;
  /** What the model is to do. Default `image-classification`. */
  task?: ExportTask | undefined;
  /** Whether an adapter is added to the weights where it can be; otherwise its products stand in the graph. Default true. */
  merge?: boolean | undefined;
}

export interface ExportedRun {
  folder: string;
  /** Of a model; an adapter has none. */
  task?: ExportTask;
  /** Paths below the folder. */
  files: string[];
}

/** A run with all that its model is made of. */
interface Source {
  readonly path: string;
  readonly stored: StoredRun;
  readonly backbone: Backbone;
  readonly module: FeatureModule;
  /** What logits are divided by, so that their softmax is what `predict` gives. */
  readonly temperature: number;
}

interface Task {
  /** @throws ScionError where the method or the backbone cannot do it; checked before anything is written */
  check?(source: Source): void;
  axes(source: Source): readonly OpenAxis[];
  build(source: Source): Build;
  /** The part of config.json that this task needs. @param javascript whether transformers.js will read it */
  config(source: Source, javascript: boolean): Record<string, unknown>;
  /** Files that are copied from the backbone's folder. */
  files: readonly string[];
}

const pixels = ({ processor: { height, width } }: Backbone, graph: Graph, batch: number): Value =>
  graph.input('pixel_values', 'float32', [batch, 3, height, width]);

/** Lengths at which programs are built: no other number of a program should be one of them. */
const batchSizes = [31, 37, 41] as const;
const textBatchSizes = [43, 53, 47] as const;
/** Whether texts of this many tokens at most may be shorter: programs are then built a little below the most. */
const openLength = (most: number): boolean => most >= 8;

const tasks = {
  'image-classification': {
    axes: () => [{ name: 'batch_size', input: 'pixel_values', axis: 0, sizes: batchSizes }],
    build: ({ backbone, module, temperature }) => (graph, size) => {
      const features = backbone.encoder.imageFeatures(pixels(backbone, graph, size('batch_size')));
      return { logits: f.div(module.logits(features), temperature) };
    },
    config: ({ stored: { info } }, javascript) => ({
      // the class by which transformers.js runs any model from pixel_values to logits
      ...(javascript ? { architectures: ['ViTForImageClassification'], model_type: 'vit' } : {}),
      id2label: Object.fromEntries(info.class_names.map((name, k) => [k, name])),
      label2id: Object.fromEntries(info.class_names.map((name, k) => [name, k])),
    }),
    files: [],
  },
  'zero-shot-image-classification': {
    check: (source) => {
      openTo(source, source.module);
      checkShorter(source);
    },
    axes: (source) => {
      const { textLength: most } = words(source);
      return [
        { name: 'image_batch_size', input: 'pixel_values', axis: 0, sizes: batchSizes },
        { name: 'text_batch_size', input: 'input_ids', axis: 0, sizes: textBatchSizes },
        ...(openLength(most) ? [{
          name: 'sequence_length', input: 'input_ids', axis: 1, sizes: [most - 1, most - 2, most - 4] as const,
        }] : []),
      ];
    },
    build: (source) => (graph, size) => {
      const { backbone, module, temperature, stored: { info } } = source;
      const encoder = words(source);
      const length = openLength(encoder.textLength) ? size('sequence_length') : encoder.textLength;
      const ids = graph.input('input_ids', 'int64', [size('text_batch_size'), length]);
      const image = backbone.encoder.imageFeatures(pixels(backbone, graph, size('image_batch_size')));
      const images = f.l2Normalize(openTo(source, module)(image));
      const texts = f.l2Normalize(encoder.textFeatures(ids));
      const cosines = f.matmul(images, f.transpose(texts, [1, 0]));
      const logits = f.mul(cosines, info.logit_scale / temperature);
      return {
        logits_per_image: logits, logits_per_text: f.transpose(logits, [1, 0]),
        text_embeds: texts, image_embeds: images,
      };
    },
    config: () => ({ architectures: ['CLIPModel'], model_type: 'clip' }),
    files: ['tokenizer.json', 'tokenizer_config.json'],
  },
} as const satisfies Record<string, Task>;
export type ExportTask = keyof typeof tasks;
export const exportTasks = Object.keys(tasks) as ExportTask[];

/** The text tower, where words can be given as transformers.js gives them. */
function words({ path, backbone: { name, text } }: Source): TextTower {
  const other = 'export it as image-classification';
  if (!text) throw inputError(path, `its backbone ${name} sees pictures alone and knows no words; ${other}`);
  if (!text.encoder.readsPadding) return text.encoder;
  throw inputError(path, `the text tower of its backbone ${name} reads padding, so that texts need their full length, `
    + `and transformers.js gives it that with SigLIP's own sigmoid scores only; ${other}`);
}

/** An ONNX graph may take texts of one length alone. */
function checkShorter(source: Source): void {
  const { textLength: most } = words(source);
  if (!openLength(most)) return;
  try {
    words(source).textFeatures(new Graph().input('input_ids', 'int64', [2, most - 1]));
  } catch (error) {
    if (!(error instanceof ScionError)) throw error;
    throw inputError(source.path, `the text tower of its backbone ${source.backbone.name} takes texts of ${most} `
      + `tokens alone (${error.message}), and other programs hand over shorter ones; export the tower again with a `
      + 'symbolic sequence axis and train on that, or export this run as image-classification', { cause: error });
  }
}

/** How a method changes the image feature, where it can be asked about any words. */
function openTo({ path, stored: { info } }: Source, module: FeatureModule): (features: Value) => Value {
  if (module.comparedWithTexts) return (features) => module.comparedWithTexts!(features);
  throw inputError(path, `${info.method} is tied to the classes that it was trained on, so it cannot be asked about `
    + 'other words; export it as image-classification, or train zero-shot or clip-adapter');
}

/**
 * Writes a run into a new folder, which appears whole: `model.onnx` (for transformers.js below `onnx/`), `config.json`
 * with the class names, `preprocessor_config.json`, and what the task needs besides.
 * @throws ScionError: a run or backbone that is not there or damaged, a task that the method cannot do, a folder with
 *   content
 */
export async function exportRun(path: string, folder: string, options: ExportOptions): Promise<ExportedRun> {
  const { to, task: name = 'image-classification', dtypes = ['fp32'] } = options;
  checkTarget(to, dtypes);
  if (!Object.hasOwn(tasks, name)) throw unknownName('--task', 'task', name, exportTasks);
  if (to === 'peft') return { folder, files: await exportPeft(path, folder, options) };
  const source = await open(path, options);
  const task: Task = tasks[name];
  task.check?.(source);
  const files = await writeExport(folder, { dtypes, inlineLimit: options.inlineLimit }, async (draft) => {
    await draft.models(to === 'onnx' ? 'model' : 'onnx/model', (runtime) =>
      named(source, () => inferenceModel(task.build(source), task.axes(source), runtime, name)));
    const own = task.config(source, to === 'transformers.js');
    await draft.json('config.json', { ...own, ...about(source, name, dtypes, draft.external, to) });
    await draft.json('preprocessor_config.json', imageProcessorConfig(source.backbone.processor));
    await draft.copy(source.backbone.folder, task.files);
  });
  return { folder, task: name, files };
}

const named = <T>({ path, backbone: { name } }: Source, build: () => Promise<T>): Promise<T> =>
  explainFixedSize(path, `its backbone ${name}`, build);

async function open(path: string, options: ExportOptions): Promise<Source> {
  const stored = await readRun(path);
  const { info, support, values } = stored;
  const module = storedModule(path, info, support, values).freeze(values);
  const cache = cacheOf(info);
  const backbone = await openRunBackbone(path, info, options, cache, options.merge ?? true);
  checkDim(path, info, backbone.encoder.imageFeatures(pixels(backbone, new Graph(), 1)).shape[1]!);
  return { path, stored, backbone, module, temperature: info.result.calibration?.temperature ?? 1 };
}

/** Where the model comes from and, for transformers.js, how it is to be loaded. */
function about(
  { stored: { info }, backbone, temperature }: Source, task: ExportTask, dtypes: readonly WeightFormat[],
  external: readonly string[], to: ExportTarget,
): Record<string, unknown> {
  return {
    ...(to === 'transformers.js' ? { 'transformers.js_config': loading(dtypes, external) } : {}),
    scion: {
      version: info.scion, task, method: info.method,
      backbone: basename(backbone.name), backbone_sha256: backbone.digest, opset, temperature,
      ...(info.pictures && { prompts: info.pictures.prompts }),
    },
  };
}
