/** How each op of ONNX is written in the IR, by domain and name. */
import type { OnnxNode } from '../decode.js';
import { contribAttention } from './attention.js';
import type { Converter } from './call.js';
import { contribElementwise, elementwise } from './elementwise.js';
import { contribMatrix, matrix } from './matrix.js';
import { contribNormalization, normalization } from './normalization.js';
import { contribQuantized, quantized } from './quantized.js';
import { resize } from './resize.js';
import { shape } from './shape.js';

const standard: Readonly<Record<string, Converter>> = {
  ...elementwise, ...shape, ...matrix, ...normalization, ...quantized, Resize: resize, Upsample: resize,
};

export const domains: Readonly<Record<string, Readonly<Record<string, Converter>>>> = {
  '': standard,
  'com.microsoft': {
    ...contribElementwise, ...contribMatrix, ...contribNormalization, ...contribQuantized, ...contribAttention,
  },
};

/** Versions of the standard op set whose ops are read. */
export const opsets = { oldest: 7, newest: 24 } as const;

export function converterOf({ op, domain }: OnnxNode): Converter | undefined {
  const table = Object.hasOwn(domains, domain) ? domains[domain]! : {};
  return Object.hasOwn(table, op) ? table[op] : undefined;
}

const controlFlow = 'which chooses or repeats a part of the graph while it runs, which a compiled step cannot; '
  + 'export the model with fixed shapes, or without the branch';
const recurrent = 'which is recurrent; Scion reads no such layers; take another model';

/** Why a well-known op is not taken. */
const reasons: Readonly<Record<string, string>> = {
  If: controlFlow, Loop: controlFlow, Scan: controlFlow, LSTM: recurrent, GRU: recurrent, RNN: recurrent,
};

export function refusal({ op, domain }: OnnxNode): string {
  if (domain !== '') return `is ${domain}::${op}, an op that Scion does not read; export the model without it`;
  const why = Object.hasOwn(reasons, op) ? reasons[op] : 'an op that Scion does not read; export the model without it';
  return `is ${/^([AEIO]|LSTM|RNN)/.test(op) ? 'an' : 'a'} ${op}, ${why}`;
}
