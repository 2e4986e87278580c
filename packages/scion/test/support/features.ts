/** Small feature files: classes are clouds around random centres, class texts lie near the centres. */
import { join } from 'node:path';
import { type FeatureContent, type Split, writeFeatureFile } from '../../src/data/feature-file.js';
import { Random } from '../../src/util/random.js';
import { float32 } from '../../src/util/tensor.js';

export interface TinyOptions {
  /** Training rows of each class. */
  train?: readonly number[];
  /** Rows per class. */
  val?: number;
  test?: number;
  dim?: number;
  /** Spread of a class against the distance of the centres. */
  noise?: number;
  seed?: number;
  classNames?: readonly string[];
  text?: boolean;
  model?: string;
}

export function tinyContent(options: TinyOptions = {}): FeatureContent {
  const { train = [8, 8, 8], val, test = 6, dim = 8, noise = 0.7, seed = 1, text = true } = options;
  const random = Random.seeded(seed);
  const around = (centre: readonly number[], spread: number, r: Random): number[] =>
    centre.map((c) => c + spread * r.normal());
  const centres = train.map((_, k) => around(new Array<number>(dim).fill(0), 1, random.child('centre', k)));
  const split = (name: string, counts: readonly number[]): Split => {
    const rows = counts.flatMap((n, k) => Array.from({ length: n }, (_, i) =>
      ({ k, x: around(centres[k]!, noise, random.child(name, k, i)) })));
    return { features: float32([rows.length, dim], rows.flatMap((r) => r.x)),
      labels: Int32Array.from(rows, (r) => r.k) };
  };
  return {
    model: options.model,
    logitScale: 10,
    classNames: options.classNames ?? train.map((_, k) => `kind ${k}`),
    train: split('train', train),
    ...(val === undefined ? {} : { val: split('val', train.map(() => val)) }),
    test: split('test', train.map(() => test)),
    ...(text ? { text: float32([train.length, 1, dim], centres.flatMap((c, k) =>
      around(c, 0.9, random.child('text', k)))) } : {}),
  };
}

/** Writes such a file and gives its path. */
export async function tinyFile(folder: string, name = 'tiny', options: TinyOptions = {}): Promise<string> {
  const path = join(folder, `${name}.safetensors`);
  await writeFeatureFile(path, tinyContent(options));
  return path;
}
