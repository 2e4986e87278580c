/** Compares methods with their reference files: every output and every gradient. */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { vjp } from '../autodiff/grad.js';
import { readSafetensors } from '../formats/safetensors-node.js';
import { Graph, type Value } from '../ir/graph.js';
import { encodeModel } from '../onnx/encode.js';
import * as f from '../nn/functional.js';
import { parityChecks } from '../peft/index.js';
import { withRuntime } from '../runtime/node.js';
import { inputError } from '../util/errors.js';
import { type Tensor, toFloat64 } from '../util/tensor.js';

/** Whichever of the two is looser. */
export const tolerance = { absolute: 1e-5, relative: 1e-4 };

export interface TensorParity {
  name: string;
  /** Largest absolute difference, and the largest as a share of what is tolerated. */
  error: number;
  share: number;
  ok: boolean;
  note?: string;
}

export interface FileParity {
  file: string;
  /** Absent where no method of this prefix exists yet. */
  method?: string;
  tensors: TensorParity[];
}

/** Checks every `.safetensors` file of a folder. */
export async function checkParity(folder: string): Promise<FileParity[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw inputError(folder, 'is no folder that can be read; give one with reference files', { cause });
  });
  const results: FileParity[] = [];
  for (const name of names.filter((n) => n.endsWith('.safetensors')).sort())
    results.push(await checkFile(join(folder, name)));
  return results;
}

async function checkFile(path: string): Promise<FileParity> {
  const file = basename(path);
  const check = parityChecks.find(({ prefix }) => file.startsWith(`${prefix}-`));
  if (!check) return { file, tensors: [] };
  const { tensors, metadata } = await readSafetensors(path);
  const graph = new Graph();
  const inputs = new Map<string, Value>();
  const missing = (what: string): never => {
    throw inputError(path, `has no ${what}, which the files of ${check.prefix} hold; make it again with its generator`);
  };
  const text = (key: string): string => metadata[key] ?? missing(`metadata ${key}`);
  const { outputs, objective } = check.build({
    input: (name) => {
      const t = tensors.get(name) ?? missing(`tensor ${name}`);
      if (!inputs.has(name)) inputs.set(name, graph.input(name, t.dtype, t.shape));
      return inputs.get(name)!;
    },
    has: (name) => tensors.has(name),
    text,
    number: (key) => {
      const value = Number(text(key));
      return Number.isFinite(value) ? value : missing(`number in metadata ${key}`);
    },
  });
  for (const [name, v] of Object.entries(outputs)) graph.output(name, v);
  const wanted = [...inputs.keys()].filter((name) => tensors.has(`grad_${name}`));
  vjp(
    objective,
    f.full(graph, 'float32', [], 1),
    wanted.map((name) => inputs.get(name)!),
  ).forEach((g, i) => graph.output(`grad_${wanted[i]}`, g));

  return withRuntime({}, async (runtime) => {
    const session = await runtime.load(encodeModel(graph));
    const actual = await session.run(Object.fromEntries([...inputs.keys()].map((name) => [name, tensors.get(name)!])));
    const compared = [...tensors.keys()].filter((name) => !inputs.has(name));
    return {
      file,
      method: check.prefix,
      tensors: compared.map((name) => compareTensor(name, actual[name], tensors.get(name)!)),
    };
  });
}

function compareTensor(name: string, actual: Tensor | undefined, expected: Tensor): TensorParity {
  const bad = (note: string): TensorParity => ({ name, error: Infinity, share: Infinity, ok: false, note });
  if (!actual) return bad('is not computed');
  if (actual.shape.join() !== expected.shape.join()) {
    return bad(`has shape [${actual.shape.join(', ')}], expected [${expected.shape.join(', ')}]`);
  }
  const [x, y] = [toFloat64(actual), toFloat64(expected)];
  let [error, share] = [0, 0];
  y.forEach((v, i) => {
    const difference = Math.abs(x[i]! - v);
    // written so that NaN is a mismatch
    if (!(difference <= error)) error = difference;
    const part = difference / Math.max(tolerance.absolute, tolerance.relative * Math.abs(v));
    if (!(part <= share)) share = part;
  });
  return { name, error, share, ok: share <= 1 };
}
