import { afterAll, describe, expect, test } from 'vitest';
import { nodeRuntime } from '../../runtime/node.js';
import { simplify } from '../../passes/simplify.js';
import { Random } from '../../util/random.js';
import { float32, numel, scalar } from '../../util/tensor.js';
import type { Tensor } from '../../util/tensor.js';
import { type NodeSpec, imported, onnxModel, original, programOf, run } from '../testing/model.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());

const random = Random.seeded(2);
const x = (...shape: number[]): Tensor => float32(shape, Float32Array.from({ length: numel(shape) }, () => random.normal()));
const step = (op: string, inputs: string, output: string, attributes: NodeSpec['attributes'] = {}): NodeSpec =>
  ({ op, name: output, inputs: inputs.split(' '), outputs: [output], attributes });

const norm = (axes: number[], deviation = 'd', affine = true): NodeSpec[] => [
  step('ReduceMean', 'x', 'm', { axes }), step('Sub', 'x m', 'd'), step('Pow', `${deviation} two`, 'p'),
  step('ReduceMean', 'p', 'v', { axes }), step('Add', 'v e', 'a'), step('Sqrt', 'a', 's'), step('Div', 'd s', 'n'),
  ...(affine ? [step('Mul', 'w n', 'k'), step('Add', 'k c', 'y')] : [step('Mul', 'n half', 'y')]),
];
const quick = (factor: string): NodeSpec[] =>
  [step('Mul', `x ${factor}`, 'm'), step('Sigmoid', 'm', 's'), step('Mul', 's x', 'y')];
const erf = (...rest: NodeSpec[]): NodeSpec[] =>
  [step('Div', 'x root', 'd'), step('Erf', 'd', 'e0'), step('Add', 'e0 one', 'a'), ...rest];

const constants = {
  two: scalar(2), e: scalar(1e-3), w: x(4), c: x(4), half: scalar(0.5), root: scalar(Math.SQRT2), one: scalar(1),
  q: scalar(1.702), three: scalar(3),
};

/** The nodes, and the ops of the program that they become. */
const cases: [string, NodeSpec[], string[]][] = [
  ['a layer norm', norm([-1]), ['LayerNormalization']],
  ['a layer norm with other things behind it', norm([-1], 'd', false), ['LayerNormalization', 'Mul']],
  ['a norm over another axis stays', norm([1]), ['ReduceMean', 'Sub', 'Mul', 'ReduceMean', 'Add', 'Sqrt', 'Div', 'Mul', 'Add']],
  ['squares of something else stay', norm([-1], 'x'), ['ReduceMean', 'Mul', 'Sub', 'ReduceMean', 'Add', 'Sqrt', 'Div', 'Mul', 'Add']],
  ['QuickGelu', quick('q'), ['QuickGelu']],
  ['SiLU', [step('Sigmoid', 'x', 's'), step('Mul', 'x s', 'y')], ['QuickGelu']],
  ['a gate by something else stays', [step('Sigmoid', 'x', 's'), step('Mul', 's w', 'y')], ['Sigmoid', 'Mul']],
  ['GELU with the half at the end', erf(step('Mul', 'x a', 'p'), step('Mul', 'p half', 'y')), ['Gelu']],
  ['GELU with the half in front', erf(step('Mul', 'x half', 'h'), step('Mul', 'h a', 'y')), ['Gelu']],
  ['another factor stays', erf(step('Mul', 'x a', 'p'), step('Mul', 'p three', 'y')), ['Mul', 'Erf', 'Add', 'Mul', 'Mul']],
];

describe('what older exports spell out becomes one op', () => {
  test.each(cases)('%s', async (_, nodes, expected) => {
    const read = new Set(nodes.flatMap((n) => n.inputs));
    const bytes = onnxModel({ opset: 17, inputs: { x: { dtype: 'float32', shape: ['b', 3, 4] } }, nodes, outputs: ['y'],
      constants: Object.fromEntries(Object.entries(constants).filter(([name]) => read.has(name))) });
    const feeds = { x: x(2, 3, 4) };
    const program = simplify(programOf(imported(bytes), feeds));
    expect(program.nodes.map((n) => n.op)).toEqual(expected);
    const [actual, reference] = [await run(runtime, program, feeds), await original(bytes, feeds)];
    (reference['y']!.data as Float32Array).forEach((v, i) =>
      expect(Math.abs((actual['y']!.data as Float32Array)[i]! - v)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(v))));
  });
});
