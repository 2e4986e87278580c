/** Which blocks of a model a method adapts: those of one tower or of both, all layers or some. */
import { z } from 'zod';
import type { Module } from '../nn/module.js';
import { type Block, type Modality, blocksOf } from '../nn/places.js';
import { refuse } from './backbone-method.js';

export const modalitySchema = z.enum(['vision', 'text', 'both']);
/** A number or a list of numbers. */
export const layersSchema = z.union([
  z.number().int().min(0).transform((n) => [n]), z.array(z.number().int().min(0)).min(1),
]);

export const modalitiesOf = (which: z.output<typeof modalitySchema>): Modality[] =>
  (which === 'both' ? ['vision', 'text'] : [which]);

/**
 * The self-attention blocks of one tower, in their order.
 * @throws ScionError of kind `usage` where the model has none
 */
export function blocksFor(model: Module, modality: Modality): Block[] {
  const all = blocksOf(model).map(([, block]) => block).filter(({ kind }) => kind.attention === 'self');
  const found = all.filter(({ kind }) => kind.modality === modality);
  if (found.length > 0) return found;
  const others = [...new Set(all.map(({ kind }) => kind.modality))];
  return refuse(['modality', `the model has no transformer layers for ${modality === 'vision' ? 'pictures' : 'texts'} to put `
    + `learned tokens into (ResNets, PictoCLIP and ONNX graphs have none); ${others.length > 0
      ? `use modality ${others[0]}` : 'use a CLIP, SigLIP, ViT or DINOv2 checkpoint of transformers'}`]);
}

/**
 * Blocks with the given numbers, all where none are given.
 * @throws ScionError of kind `usage` that names the numbers without a block
 */
export function ofLayers(blocks: readonly Block[], layers: readonly number[] | undefined): Block[] {
  if (layers === undefined) return [...blocks];
  const missing = layers.filter((layer) => !blocks.some(({ kind }) => kind.layer === layer));
  if (missing.length > 0) {
    const last = Math.max(...blocks.map(({ kind }) => kind.layer));
    refuse(['layers_to_transform', `${missing.join(', ')}: there is no such layer; there are 0 to ${last}`]);
  }
  return blocks.filter(({ kind }) => layers.includes(kind.layer));
}
