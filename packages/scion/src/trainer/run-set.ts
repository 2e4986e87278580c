/**
 * Several finished runs that classify pictures together. Runs on the same backbone share it, and encode once; runs that
 * adapt it in the same way share it too, and their adapters are swapped by feeding other values.
 */
import { processImage } from '../data/image-processor.js';
import { nodeRuntime } from '../runtime/node.js';
import type { Runtime, Tensors } from '../runtime/session.js';
import { type Issue, ScionError, unknownName } from '../util/errors.js';
import { float32 } from '../util/tensor.js';
import { trains } from './adapted.js';
import { type Backbone, type ImageEncoder, openImageEncoder } from './encode.js';
import { type PredictOptions, type Prediction, type Run, type StoredRun, readRun, runFromParts } from './run.js';
import type { RunInfo } from './run-info.js';
import { type Adaptation, adaptationOf, adaptedBackbone, adaptedTree } from './run-adaptation.js';
import { type RunOptions, cacheOf, checkDim, openPlainBackbone } from './run-pictures.js';

export interface RunSetOptions extends Pick<RunOptions, 'model' | 'revision' | 'openBackbone' | 'onWarning'> {
  /** Threads of the backbone and of the methods. Default: the number of physical cores. */
  threads?: number | undefined;
}

export interface ClassifyOptions extends PredictOptions {
  /** Names of the runs to ask; all where absent. */
  runs?: readonly string[] | undefined;
  /** Most pixels of a picture; more are refused before anything is decoded. Default 100 million. */
  maxPixels?: number | undefined;
  /** Ends the work before its next part begins. */
  signal?: AbortSignal | undefined;
}

export interface RunSet {
  /** By the names that they were opened under. */
  readonly runs: ReadonlyMap<string, RunInfo>;
  /** Image models in memory. */
  readonly models: number;
  /**
   * Predictions for the picture that a file's bytes hold, in the order of the runs that were asked. Calls may overlap.
   * @throws ScionError: bytes that are no picture, an unknown run, options that a run cannot follow
   */
  classify(picture: Uint8Array, options?: ClassifyOptions): Promise<Map<string, Prediction>>;
  /** Frees the models and ends their threads. */
  close(): Promise<void>;
}

/** A backbone with the thread that runs it and the methods on its features. */
interface Shared {
  readonly backbone: Backbone;
  readonly runtime: Runtime;
  readonly encoder: ImageEncoder;
}

/** Bytes of an adapter that are handed over with every picture; a larger one gets a model of its own. */
const mostSwapped = 64 * 2 ** 20;

/** @throws ScionError with everything that is wrong with any of the runs */
export async function openRuns(paths: Readonly<Record<string, string>>, options: RunSetOptions = {}): Promise<RunSet> {
  const runtimes: Runtime[] = [];
  const shared = new Map<string, Shared>();
  const opened = new Map<string, { run: Run; shared: Shared; values: Tensors | undefined }>();
  const close = async (): Promise<void> => {
    await Promise.all(runtimes.map((runtime) => runtime.close()));
  };
  /** @param structure what its adapter is, apart from its values */
  const share = (backbone: Backbone, structure: unknown): Shared => {
    const key = JSON.stringify([backbone.digest, backbone.processor.settings, structure]);
    let found = shared.get(key);
    if (!found) {
      const runtime = nodeRuntime();
      runtimes.push(runtime); // before anything can fail
      const encoder = openImageEncoder({ runtime, backbone, batchSize: 1, threads: options.threads });
      found = { backbone, runtime, encoder };
      shared.set(key, found);
    }
    return found;
  };
  const open = async (name: string, path: string): Promise<void> => {
    const stored: StoredRun = await readRun(path);
    const cache = cacheOf(stored.info);
    const plain = await openPlainBackbone(path, stored.info, options, cache);
    const adaptation = await adaptationOf(path, stored.info);
    const tree = adaptation && await adaptedTree(plain, adaptation);
    const { height, width } = plain.processor;
    const inImages = tree && trains((graph) => tree.imageFeatures(graph.input('images', 'float32', [1, 3, height, width])));
    const swapped = inImages && sizeOf(adaptation) <= mostSwapped;
    const its = !inImages ? share(plain, undefined)
      : swapped ? share({ ...plain, encoder: tree }, [adaptation.method.name, adaptation.config])
        : share(await adaptedBackbone(plain, adaptation, { merge: true }), undefined);
    checkDim(path, stored.info, its.encoder.dim);
    const run = runFromParts(path, stored.info, stored.support, stored.values, { ...options, rows: 1 }, its.runtime);
    opened.set(name, { run, shared: its, values: swapped ? adaptation.values : undefined });
  };
  try {
    const issues: Issue[] = [];
    for (const [name, path] of Object.entries(paths)) {
      await open(name, path).catch((error: unknown) => {
        if (!(error instanceof ScionError)) throw error;
        issues.push(...error.issues);
      });
    }
    if (issues.length > 0) throw new ScionError('input', issues);
    // what cannot be loaded is found now, and the first picture waits for nothing
    for (const { run, shared: { encoder } } of opened.values()) {
      await encoder.load();
      await run.predict(float32([1, run.info.dim], new Float32Array(run.info.dim).fill(1)));
    }
  } catch (error) {
    await close();
    throw error;
  }

  return {
    models: shared.size,
    runs: new Map([...opened].map(([name, { run }]) => [name, run.info])),
    async classify(picture, { runs: names = [...opened.keys()], maxPixels, signal, ...chosen } = {}) {
      const asked = names.map((name) => {
        const found = opened.get(name);
        if (!found) throw unknownName('run', 'run', name, [...opened.keys()]);
        return [name, found] as const;
      });
      const features = new Map<object, Float32Array>();
      for (const [, { shared: its, values }] of asked) {
        if (features.has(values ?? its)) continue;
        const { processor } = its.backbone;
        const pixels = await processImage(picture, processor, { ...(maxPixels === undefined ? {} : { maxPixels }) });
        signal?.throwIfAborted();
        const row = await its.encoder.encodePixels(float32([1, 3, processor.height, processor.width], pixels), values);
        features.set(values ?? its, row.data);
      }
      const found = new Map<string, Prediction>();
      for (const [name, { run, shared: its, values }] of asked) {
        const [prediction] = await run.predict([features.get(values ?? its)!], chosen);
        found.set(name, prediction!);
      }
      return found;
    },
    close,
  };
}

function sizeOf({ values }: Adaptation): number {
  return Object.values(values).reduce((sum, { data }) => sum + data.byteLength, 0);
}
