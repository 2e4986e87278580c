/** What is behind a name in an ONNX graph: the node that makes it, those that read it, the constant that it stands for. */
import type { OnnxInitializer, OnnxNode, OnnxSummary } from './decode.js';

/** A constant behind ops that only move or convert it. */
export interface Stored {
  readonly initializer: OnnxInitializer;
  /** Of the value, not of the constant. */
  readonly shape: readonly number[];
  /** Whether the value is the transposed constant. */
  readonly flipped: boolean;
  /** Whether the constant holds whole numbers that are scaled. */
  readonly quantised: boolean;
}

/** The constants of a file by name: initializers, and what Constant nodes hold. */
export function constantsOf({ initializers, nodes }: OnnxSummary): ReadonlyMap<string, OnnxInitializer> {
  const held = nodes.flatMap(({ op, attributes: { value }, outputs: [name] }) =>
    (op === 'Constant' && name && typeof value === 'object' && 'dtype' in value ? [{ ...value, name }] : []));
  return new Map([...held, ...initializers].map((t) => [t.name, t]));
}

export class Lookup {
  private readonly constants: ReadonlyMap<string, OnnxInitializer>;
  private readonly makers: ReadonlyMap<string, OnnxNode>;
  private readonly readers = new Map<string, OnnxNode[]>();

  constructor(summary: OnnxSummary) {
    this.constants = constantsOf(summary);
    this.makers = new Map(summary.nodes.flatMap((n) => n.outputs.map((name) => [name, n] as const)));
    for (const n of summary.nodes) {
      for (const name of n.inputs) {
        const known = this.readers.get(name);
        if (known) known.push(n);
        else this.readers.set(name, [n]);
      }
    }
  }

  /** The node that gives a value, where it is of this op of the standard set. */
  maker(name: string | undefined, op: string): OnnxNode | undefined {
    const found = this.makers.get(name ?? '');
    return found?.op === op && found.domain === '' ? found : undefined;
  }

  /** The one node that reads a value. */
  reader(name: string | undefined, op: string): OnnxNode | undefined {
    const found = this.readers.get(name ?? '') ?? [];
    return found.length === 1 && found[0]!.op === op && found[0]!.domain === '' ? found[0] : undefined;
  }

  /** The constant behind a value, through ops that keep it a matrix of the same numbers. */
  stored(name: string | undefined): Stored | undefined {
    let [flipped, quantised] = [false, false];
    for (let at = name ?? '', steps = 0; steps < 8; steps++) {
      const initializer = this.constants.get(at);
      if (initializer) {
        const { shape } = initializer;
        return { initializer, flipped, quantised, shape: flipped ? [...shape].reverse() : shape };
      }
      const maker = this.makers.get(at);
      if (!maker || !['Identity', 'Cast', 'DequantizeLinear', 'Transpose'].includes(maker.op)) return undefined;
      const perm = maker.attributes['perm'];
      if (maker.op === 'Transpose' && !(Array.isArray(perm) && perm.join() === '0,1')) flipped = !flipped;
      quantised ||= maker.op === 'DequantizeLinear';
      at = maker.inputs[0]!;
    }
    return undefined;
  }

  /** The constant behind a value that is a vector of so many numbers, axes of size 1 before them aside. */
  vector(name: string | undefined, features: number): OnnxInitializer | undefined {
    const found = this.stored(name);
    const fits = found?.initializer.dtype && !found.quantised && found.shape.at(-1) === features
      && found.shape.slice(0, -1).every((d) => d === 1);
    return fits ? found.initializer : undefined;
  }

  /** What a commutative op is handed beside a value. */
  other({ inputs }: OnnxNode, name: string): string | undefined {
    return inputs.find((operand) => operand !== name);
  }
}
