/** PictoCLIP: the built-in dual encoder, loaded or begun anew. */
import { type Init, init, trained } from '../../nn/parameter.js';
import { numel } from '../../util/tensor.js';
import { type PictoConfig, parsePictoConfig } from './config.js';
import { PictoClip } from './model.js';

export type { PictoConfig } from './config.js';
export { PictoClip, loadPicto } from './model.js';

/** Kernels as He et al. (2015), the last of a block smaller, so that blocks begin near the identity. */
const rules: readonly (readonly [RegExp, (shape: readonly number[], config: PictoConfig) => Init])[] = [
  [/logit_scale$/, (_, config) => init.constant(config.logit_scale_init_value)],
  [/norm\d?\.weight$/, () => init.constant(1)],
  [/bias$/, () => init.zeros],
  [/embedding\.weight$/, () => init.normal(0.02)],
  [/conv2\.weight$/, (shape) => init.normal(0.3 * Math.sqrt(2 / numel(shape.slice(1))))],
  [/(conv1|downsample|stem\.\d)\.weight$/, (shape) => init.normal(Math.sqrt(2 / numel(shape.slice(1))))],
  [/./, () => init.linear],
];

/**
 * A model to be trained from the beginning, by `pretrain`.
 * @throws ScionError of kind `input` for a configuration that makes no sense
 */
export function newPictoClip(config: unknown): PictoClip {
  const full = parsePictoConfig(config, 'config');
  return new PictoClip((name, shape) =>
    trained(shape, rules.find(([pattern]) => pattern.test(name))![1](shape, full)), full).named();
}
