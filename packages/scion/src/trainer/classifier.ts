/** A method's module, compiled for prediction. */
import type { Graph, Value } from '../ir/graph.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../runtime/session.js';
import { float32 } from '../util/tensor.js';
import type { Classifying, Rows } from './adapted.js';
import { type Program, compileInference } from './compile.js';
import { openProgram } from './program.js';

/** What `rows` is where nobody says so: of features, and of pictures. */
const defaultRows = { features: 256, images: 32 } as const;

export interface ClassifierOptions extends SessionOptions {
  /**
   * Rows of one inference; one that is not full is padded, so that one compilation serves any number of rows. Default
   * 256, of pictures 32; fewer answer a single row sooner.
   */
  rows?: number | undefined;
}

export interface FeatureClassifier {
  readonly classes: number;
  /** Takes over the trained values that a training session holds at this moment; they stay inside the runtime. */
  follow(training: Session): Promise<void>;
  /** N rows → logits [N, K], row after row. */
  logits(rows: Rows): Promise<Float32Array>;
  /**
   * For rows that are classified again and again with other values: gives a function from settings (those that change,
   * by parameter name) to logits [N, K]. Calls may overlap and are answered in turn.
   */
  repeatedly(rows: Rows): Promise<(settings?: Tensors) => Promise<Float32Array>>;
  release(): Promise<void>;
}

/** The program from a batch of `features`, or of `images`, to `logits`. */
export function compileClassifier(module: Classifying, asked?: number): Program & { rows: number } {
  const { images: side } = module;
  const rows = asked ?? defaultRows[side ? 'images' : 'features'];
  const program = compileInference((graph: Graph): { logits: Value } => ({
    logits: module.logits(side
      ? side.encode(graph.input('images', 'float32', [rows, 3, side.height, side.width]))
      : graph.input('features', 'float32', [rows, module.inputs.dim])),
  }));
  return { ...program, rows };
}

export async function openClassifier(
  runtime: Runtime,
  module: Classifying,
  values: Tensors,
  { rows: asked, ...options }: ClassifierOptions = {},
): Promise<FeatureClassifier> {
  const { dim, classes } = module.inputs;
  const { images: side } = module;
  const { rows: batchRows, ...program } = compileClassifier(module, asked);
  const known = new Set([...module.parameters()].map(([name]) => name));
  const used = new Set(program.step.inputs.flatMap((v) => (v.source.kind === 'input' ? [v.source.name] : [])));
  const own = (all: Tensors): Tensors => Object.fromEntries(Object.entries(all).filter(([name]) => known.has(name)));
  const session: Session = await openProgram(runtime, program, own(values), options);
  const trained = [...module.parameters()].flatMap(([name, p]) =>
    (p.origin.kind === 'trained' && used.has(name) ? [name] : []));

  /** Rows from `start` on, as many as go into one run. */
  const batchAt = async (rows: Rows, start: number): Promise<Tensors> => {
    const { data, shape: [count] } = rows.features;
    const taken = Math.min(count! - start, batchRows);
    // padding repeats the first row: a zero row would be a needless special case for normalisation
    if (side) {
      const pictures = Array.from({ length: batchRows }, (_, i) => rows.images![start + (i < taken ? i : 0)]!);
      return { images: await side.load(pictures) };
    }
    const batch = new Float32Array(batchRows * dim);
    batch.set(data.subarray(start * dim, (start + taken) * dim));
    for (let row = taken; row < batchRows; row++) batch.copyWithin(row * dim, 0, dim);
    return { features: float32([batchRows, dim], batch) };
  };
  const inBatches = async (rows: Rows, feeds: Tensors): Promise<Float32Array> => {
    const count = rows.features.shape[0]!;
    const out = new Float32Array(count * classes);
    let next = count > 0 ? batchAt(rows, 0) : undefined;
    for (let start = 0; start < count; start += batchRows) {
      const batch = (await next)!;
      // the next pictures are read while these are classified
      next = start + batchRows < count ? batchAt(rows, start + batchRows) : undefined;
      next?.catch(() => undefined); // reported when its turn comes
      const { logits } = await session.run({ ...feeds, ...batch });
      const taken = Math.min(batchRows, count - start);
      out.set((logits!.data as Float32Array).subarray(0, taken * classes), start * classes);
    }
    return out;
  };
  return {
    classes,
    follow: (training) => training.share(trained, session),
    logits: (rows) => inBatches(rows, {}),
    repeatedly: async (rows) => {
      const settingsOf = (all: Tensors = {}): Tensors =>
        Object.fromEntries(Object.entries(all).filter(([name]) => used.has(name)));
      const count = rows.features.shape[0]!;
      if (side || count > batchRows) return (settings) => inBatches(rows, settingsOf(settings));
      await session.hold(await batchAt(rows, 0));
      return async (settings) => {
        const { logits } = await session.run(settingsOf(settings));
        return (logits!.data as Float32Array).subarray(0, count * classes);
      };
    },
    release: () => session.release(),
  };
}
