/** A feature method's module, compiled for prediction. */
import type { Graph, Value } from '../ir/graph.js';
import type { FeatureModule } from '../peft/index.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../runtime/session.js';
import { type Tensor, float32 } from '../util/tensor.js';
import { compileInference } from './compile.js';
import { openProgram } from './program.js';

/** What `rows` is where nobody says so. */
const defaultRows = 256;

export interface ClassifierOptions extends SessionOptions {
  /**
   * Rows of one inference; one that is not full is padded, so that one compilation serves any number of rows. Default
   * 256; fewer answer a single row sooner.
   */
  rows?: number | undefined;
}

export interface FeatureClassifier {
  readonly classes: number;
  /** Takes over the trained values that a training session holds at this moment; they stay inside the runtime. */
  follow(training: Session): Promise<void>;
  /** features [N, d] → logits [N, K], row after row. */
  logits(features: Tensor<'float32'>): Promise<Float32Array>;
  /**
   * For rows that are classified again and again with other values: gives a function from settings (those that change,
   * by parameter name) to logits [N, K]. Calls may overlap and are answered in turn.
   */
  repeatedly(features: Tensor<'float32'>): Promise<(settings?: Tensors) => Promise<Float32Array>>;
  release(): Promise<void>;
}

export async function openClassifier(
  runtime: Runtime,
  module: FeatureModule,
  values: Tensors,
  { rows: batchRows = defaultRows, ...options }: ClassifierOptions = {},
): Promise<FeatureClassifier> {
  const { dim, classes } = module.inputs;
  const program = compileInference((graph: Graph): { logits: Value } => ({
    logits: module.logits(graph.input('features', 'float32', [batchRows, dim])),
  }));
  const known = new Set([...module.parameters()].map(([name]) => name));
  const own = (all: Tensors): Tensors => Object.fromEntries(Object.entries(all).filter(([name]) => known.has(name)));
  const session: Session = await openProgram(runtime, program, own(values), options);
  const used = new Set(program.step.inputs.flatMap((v) => (v.source.kind === 'input' ? [v.source.name] : [])));
  const trained = [...module.parameters()].flatMap(([name, p]) =>
    (p.origin.kind === 'trained' && used.has(name) ? [name] : []));

  /** Rows from `start` on, as many as go into one run. */
  const batchAt = ({ data, shape }: Tensor<'float32'>, start: number): Tensor<'float32'> => {
    const batch = new Float32Array(batchRows * dim);
    batch.set(data.subarray(start * dim, Math.min(shape[0]!, start + batchRows) * dim));
    // padding repeats the first row: a zero row would be a needless special case for normalisation
    for (let row = shape[0]! - start; row < batchRows; row++) batch.copyWithin(row * dim, 0, dim);
    return float32([batchRows, dim], batch);
  };
  const inBatches = async (features: Tensor<'float32'>, feeds: Tensors): Promise<Float32Array> => {
    const rows = features.shape[0]!;
    const out = new Float32Array(rows * classes);
    for (let start = 0; start < rows; start += batchRows) {
      const { logits } = await session.run({ ...feeds, features: batchAt(features, start) });
      const count = Math.min(batchRows, rows - start);
      out.set((logits!.data as Float32Array).subarray(0, count * classes), start * classes);
    }
    return out;
  };
  return {
    classes,
    follow: (training) => training.share(trained, session),
    logits: (features) => inBatches(features, {}),
    repeatedly: async (features) => {
      const settingsOf = (all: Tensors = {}): Tensors =>
        Object.fromEntries(Object.entries(all).filter(([name]) => used.has(name)));
      const rows = features.shape[0]!;
      if (rows > batchRows) return (settings) => inBatches(features, settingsOf(settings));
      await session.hold({ features: batchAt(features, 0) });
      return async (settings) => {
        const { logits } = await session.run(settingsOf(settings));
        return (logits!.data as Float32Array).subarray(0, rows * classes);
      };
    },
    release: () => session.release(),
  };
}
