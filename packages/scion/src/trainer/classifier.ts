/** A feature method's module, compiled for prediction. */
import type { Graph, Value } from '../ir/graph.js';
import type { FeatureModule } from '../peft/index.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../runtime/session.js';
import { type Tensor, float32 } from '../util/tensor.js';
import { compileInference } from './compile.js';
import { openProgram } from './program.js';

/** Rows per run; the last run is padded, so that one compilation serves any number of rows. */
const batchRows = 256;

export interface FeatureClassifier {
  readonly classes: number;
  /** Trained values and settings, by parameter name. */
  set(values: Tensors): Promise<void>;
  /** features [N, d] → logits [N, K], row after row. */
  logits(features: Tensor<'float32'>): Promise<Float32Array>;
  release(): Promise<void>;
}

export async function openClassifier(
  runtime: Runtime,
  module: FeatureModule,
  values: Tensors,
  options: SessionOptions = {},
): Promise<FeatureClassifier> {
  const { dim, classes } = module.inputs;
  const program = compileInference((graph: Graph): { logits: Value } => ({
    logits: module.logits(graph.input('features', 'float32', [batchRows, dim])),
  }));
  const known = new Set([...module.parameters()].map(([name]) => name));
  const own = (all: Tensors): Tensors => Object.fromEntries(Object.entries(all).filter(([name]) => known.has(name)));
  const session: Session = await openProgram(runtime, program, own(values), options);
  const used = new Set(program.step.inputs.flatMap((v) => (v.source.kind === 'input' ? [v.source.name] : [])));
  return {
    classes,
    set: (next) => session.hold(Object.fromEntries(Object.entries(own(next)).filter(([name]) => used.has(name)))),
    logits: async ({ data, shape }) => {
      const rows = shape[0]!;
      const out = new Float32Array(rows * classes);
      for (let start = 0; start < rows; start += batchRows) {
        const batch = new Float32Array(batchRows * dim);
        batch.set(data.subarray(start * dim, Math.min(rows, start + batchRows) * dim));
        // padding repeats the first row: a zero row would be a needless special case for normalisation
        for (let row = rows - start; row < batchRows; row++) batch.copyWithin(row * dim, 0, dim);
        const { logits } = await session.run({ features: float32([batchRows, dim], batch) });
        const count = Math.min(batchRows, rows - start);
        out.set((logits!.data as Float32Array).subarray(0, count * classes), start * classes);
      }
      return out;
    },
    release: () => session.release(),
  };
}
