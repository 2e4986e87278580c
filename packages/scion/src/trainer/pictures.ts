/** The features of a recipe: read from a feature file, or computed from its pictures and words. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { cacheFolder } from '../data/cache-folder.js';
import { type ImageDataset, type LabelledImage, readDataset, splitNames } from '../data/dataset.js';
import {
  type FeatureContent,
  type FeatureFile,
  type Need,
  type Picture,
  type RowGroups,
  type Split,
  asFeatureFile,
  readFeatureFile,
} from '../data/feature-file.js';
import { defaultLogitScale } from '../data/feature-checks.js';
import { ahead, settled } from '../data/image-loader.js';
import { isBuiltInData, pictureSet } from '../data/suites.js';
import { makePrompts, readDescriptions, templateSets } from '../data/prompts.js';
import { sha256 } from '../formats/files.js';
import { builtInModels, defaultModel } from '../hub/resolve.js';
import { withRuntime } from '../runtime/node.js';
import type { Device } from '../runtime/session.js';
import { getMethod, methodNames } from '../peft/index.js';
import { type Issue, ScionError, assert, inputError } from '../util/errors.js';
import { float32 } from '../util/tensor.js';
import {
  type Backbone,
  type EncodeOptions,
  type OpenBackbone,
  encodeTexts,
  openImageEncoder,
} from './encode.js';
import type { AdaptedSource } from './adapted.js';
import { checkDevice } from './check-runtime.js';
import { pictureLoader } from './picture-loader.js';
import { type PictureInput, type RecipeSource, pictureDefaults, pictureIssues } from './recipe-source.js';
import type { RunInfo } from './run-info.js';

/** What a caller may watch while pictures are encoded, and the models it hands in. */
export interface SourceOptions {
  openBackbone?: OpenBackbone;
  /** Pictures and texts that are encoded, or bytes of the model that are downloaded. */
  onEncode?: (done: number, total: number, what: string) => void;
  onWarning?: (warning: string) => void;
  /** A picture that is left out under `skip_bad`. */
  onBad?: (error: ScionError) => void;
  signal?: AbortSignal;
}

/** What models are computed with. */
export interface Machine {
  threads?: number | undefined;
  device?: Device | undefined;
}

export interface RecipeFeatures extends FeatureFile {
  /** Where they were computed from pictures: from which, and how. */
  readonly pictures?: NonNullable<RunInfo['pictures']>;
  /** For methods that adapt the model itself. */
  readonly source?: AdaptedSource;
}

export interface EncodedPictures {
  content: FeatureContent;
  /** SHA-256 of all that decides over the features: pictures, labels, words, model, preprocessing. */
  digest: string;
  pictures: NonNullable<RunInfo['pictures']>;
  backbone: Backbone;
}

/** The features that a recipe asks for, by `features` or by `data`. `notes` has the warnings about pictures too. */
export async function recipeFeatures(
  recipe: RecipeSource & Machine,
  need: Need,
  options: SourceOptions = {},
): Promise<RecipeFeatures> {
  if (recipe.data === undefined) return readFeatureFile(recipe.features!, need);
  const notes: string[] = [];
  const { data, features: _, ...rest } = recipe;
  const given = { ...options, onWarning: (warning: string) => notes.push(warning) };
  const { content, digest, pictures, backbone } = await encode({ ...rest, data }, need, given);
  const file = asFeatureFile(lasting(data), digest, content);
  const source = {
    backbone, classNames: content.classNames, prompts: pictures.prompts, flip: pictures.flip,
    pictures: pictureLoader(backbone.processor),
  };
  return { ...file, notes: [...notes, ...file.notes], pictures, source };
}

/**
 * Encodes a data set and the prompts of its classes, as `scion features` does.
 * @throws ScionError: wrong words, data or model, or a picture that cannot be read unless `skip_bad` is set
 */
export async function encodePictures(
  input: PictureInput,
  options: SourceOptions & Machine & { batchSize?: number } = {},
): Promise<EncodedPictures> {
  const issues = pictureIssues(input);
  if (issues.length > 0) throw new ScionError('usage', issues);
  const { threads, device } = options;
  await checkDevice(device);
  return encode({ ...input, threads, device }, {}, options);
}

async function encode(
  recipe: Omit<RecipeSource, 'features'> & Machine & { data: string },
  need: Need,
  options: SourceOptions & { batchSize?: number },
): Promise<EncodedPictures> {
  const {
    data,
    model = defaultModel,
    views = pictureDefaults.views,
    skip_bad: skip = pictureDefaults.skip_bad,
  } = recipe;
  const view = { seed: recipe.view_seed ?? pictureDefaults.view_seed, flip: recipe.flip ?? pictureDefaults.flip };
  const { onWarning, signal } = options;
  const cache = (recipe.cache ?? pictureDefaults.cache) ? cacheFolder() : undefined;
  const dataset = await readDataset(await pictureSet(data));
  dataset.warnings.forEach((warning) => onWarning?.(warning));
  checkSplits(data, dataset, need);
  const prompts = await promptsOf(recipe, dataset.classNames);
  const backbone = await open(options, model, cache, {
    revision: recipe.revision, dtype: recipe.model_dtype, adapter: recipe.adapter,
  });
  if (!backbone.text) checkWordless(backbone, recipe, need);
  if (recipe.model === undefined) {
    onWarning?.(
      `the model is the built-in ${model}, ${builtInModels[model]}; for photographs name another with ` +
        '--model, such as openai/clip-vit-base-patch32 (scion models lists some)',
    );
  }
  const leftOut = new Set<string>();
  const bad = (path: string, error: ScionError): void => {
    if (!skip) throw error;
    if (!leftOut.has(path)) options.onBad?.(error);
    leftOut.add(path);
  };
  const hashes = await hashed(dataset, bad);
  return withRuntime({ device: recipe.device }, async (runtime) => {
    const shared: EncodeOptions = {
      runtime,
      backbone,
      cache,
      threads: recipe.threads,
      device: recipe.device,
      signal,
      onWarning,
      onProgress: options.onEncode,
      ...(options.batchSize === undefined ? {} : { batchSize: options.batchSize }),
    };
    const encoder = openImageEncoder(shared, view);
    const splits: Partial<Record<(typeof splitNames)[number], Split>> = {};
    const words = backbone.text ? await encodeTexts(shared, prompts) : { logitScale: defaultLogitScale };
    for (const name of splitNames) {
      const images = dataset.splits[name];
      if (!images?.length) continue;
      splits[name] = await encodeSplit(images, name === 'train' ? views : 1, name,
        name === 'test' ? dataset.groups : undefined);
      if (splits[name].labels.length === 0) {
        throw inputError(data, `none of the ${images.length} pictures of ${name} can be read; replace them`);
      }
    }
    if (leftOut.size > 0) onWarning?.(`${leftOut.size} pictures cannot be read and are left out`);
    const content = { model: backbone.name, classNames: dataset.classNames, ...words, ...splits };
    const pictures = {
      data: lasting(data),
      model: modelOf(backbone),
      preprocessing: { ...backbone.processor.settings },
      prompts: backbone.text ? prompts : [],
      views,
      view_seed: view.seed,
      flip: view.flip,
      left_out: [...leftOut],
    };
    const { data: _, ...decisive } = pictures;
    const rows = splitNames.map((name) =>
      dataset.splits[name]?.map(({ path, label }) => [hashes.get(path) ?? '', label, leftOut.has(path)]),
    );
    const device = recipe.device === 'cpu' ? undefined : recipe.device;
    const all = { ...decisive, model: backbone.digest, left_out: undefined, classes: dataset.classNames, rows, device };
    return { content, digest: createHash('sha256').update(JSON.stringify(all)).digest('hex'), pictures, backbone };

    /** Plain views first, in the order of the data, then the others: picture by picture. */
    async function encodeSplit(
      images: readonly LabelledImage[], count: number, what: string, groups: ImageDataset['groups'],
    ): Promise<Split> {
      const picture = (i: number, v: number): Picture => ({
        path: images[i]!.path,
        sha256: hashes.get(images[i]!.path)!,
        view: v,
      });
      const there = images.flatMap(({ path }, i) => (hashes.has(path) ? [i] : []));
      const plain = await encoder.encode(
        there.map((i) => picture(i, 0)),
        {
          what: `${what} pictures`,
          skipBad: skip ? (position, error) => bad(images[there[position]!]!.path, error) : undefined,
        },
      );
      const positions = plain.positions.map((row) => there[row]!);
      const labels = positions.map((i) => images[i]!.label);
      const shown = positions.map((i) => picture(i, 0));
      if (count === 1) {
        const own = rowGroups(groups, positions);
        return { features: plain.features, labels: Int32Array.from(labels), images: shown, ...(own && { groups: own }) };
      }
      const further = positions.flatMap((i) => Array.from({ length: count - 1 }, (_, v) => picture(i, v + 1)));
      const {
        features: { data: more },
      } = await encoder.encode(further, { what: `${what} views` });
      const rows = new Float32Array(plain.features.data.length + more.length);
      rows.set(plain.features.data);
      rows.set(more, plain.features.data.length);
      const pictures = [...labels.keys(), ...further.map((_, i) => Math.floor(i / (count - 1)))];
      return {
        features: float32([pictures.length, encoder.dim], rows),
        labels: Int32Array.from(pictures, (p) => labels[p]!),
        pictures: Int32Array.from(pictures),
        images: [...shown, ...further],
      };
    }
  });
}

/** Groups of the pictures that were read; a group of which none was is left out. */
export function rowGroups(groups: ImageDataset['groups'], positions: readonly number[]): RowGroups | undefined {
  const places = new Map(positions.map((position, row) => [position, row]));
  const found = Object.entries(groups ?? {}).filter(([, rows]) => rows.some((row) => places.has(row)));
  if (found.length === 0) return undefined;
  const of = new Int32Array(positions.length).fill(-1);
  found.forEach(([, rows], group) => rows.forEach((position) => {
    const row = places.get(position);
    if (row !== undefined) of[row] = group;
  }));
  return { names: found.map(([name]) => name), of };
}

/** What names the data from wherever a run is used. */
export const lasting = (data: string): string => (isBuiltInData(data) ? data : resolve(data));

/** Opens a model with the function that was handed in. */
export function open(
  { openBackbone, signal, onEncode: onProgress, onWarning }: SourceOptions,
  model: string,
  cache: string | undefined,
  which: Pick<NonNullable<Parameters<OpenBackbone>[1]>, 'revision' | 'dtype' | 'adapter'>,
): Promise<Backbone> {
  assert(openBackbone, 'no way to open a model was handed in');
  return openBackbone(model, { ...which, cache, signal, onProgress, onWarning });
}

/** What a run remembers of its model. */
function modelOf({ name, path, digest, revision, dtype, adapter }: Backbone): NonNullable<RunInfo['pictures']>['model'] {
  return { name, path, digest, ...(revision === undefined ? {} : { revision }), ...(dtype && { dtype }), ...(adapter === undefined ? {} : { adapter }) };
}

function checkSplits(data: string, { splits }: ImageDataset, need: Need): void {
  const missing = splitNames.filter((name) => need[name] && !splits[name]?.length);
  if (missing.length === 0) return;
  throw new ScionError(
    'input',
    missing.map((name) => ({
      path: data,
      message:
        `has no ${name} pictures, which are needed here; put them below ${name}/, ` +
        `or say "${name}" in the manifest`,
    })),
  );
}

/** Refuses methods and settings that need words, for a model that sees pictures alone. */
function checkWordless({ name }: Backbone, recipe: RecipeSource, need: Need): void {
  const issues: Issue[] = (['templates', 'descriptions'] as const)
    .filter((key) => recipe[key] !== undefined)
    .map((path) => ({ path, message: `is for models that read words, and ${name} sees pictures alone; leave it out` }));
  if (need.text?.length) {
    const wordless = methodNames().filter((method) => !getMethod(method).needsText);
    issues.push({
      path: 'model',
      message:
        `${name} sees pictures alone, and ${need.text.join(', ')} needs words too; take a CLIP or SigLIP model, or a ` +
        `method without words: ${wordless.join(', ')}`,
    });
  }
  if (issues.length > 0) throw new ScionError('usage', issues);
}

/** The texts of classes as a recipe says. */
export async function promptsOf(
  { templates, descriptions, model = defaultModel }: Pick<RecipeSource, 'templates' | 'descriptions' | 'model'>,
  classNames: readonly string[],
): Promise<string[][]> {
  const texts = descriptions === undefined ? undefined : await readDescriptions(descriptions);
  const set = templates ?? (texts === undefined && Object.hasOwn(builtInModels, model) ? 'name' : undefined);
  const used = typeof set === 'string' ? templateSets[set] : set;
  return makePrompts(classNames, {
    ...(used ? { templates: used } : {}),
    ...(texts ? { descriptions: texts, where: descriptions! } : {}),
  });
}

/** Files whose hashes are computed at once. */
const hashesInFlight = 8;

/** The SHA-256 of each picture's content, by path. */
export async function hashPictures(
  paths: readonly string[],
  bad: (path: string, error: ScionError) => void,
): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  let at = 0;
  for await (const hash of ahead(paths, hashesInFlight, (path) => settled(sha256(path)))) {
    const path = paths[at++]!;
    if (hash instanceof ScionError) bad(path, hash);
    else hashes.set(path, hash);
  }
  return hashes;
}

function hashed(
  { splits }: ImageDataset,
  bad: (path: string, error: ScionError) => void,
): Promise<Map<string, string>> {
  const paths = splitNames.flatMap((name) => splits[name]?.map(({ path }) => path) ?? []);
  return hashPictures([...new Set(paths)], bad);
}
