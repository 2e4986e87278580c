/** Backbones of every kind with pictures and words for them, on which methods are tried. */
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../formats/safetensors-node.js';
import { readCheckpoint } from '../../hub/checkpoint.js';
import { type Backbone, isDual, loadBackbone } from '../../models/index.js';
import { Module } from '../../nn/module.js';
import type { Modality } from '../../nn/places.js';
import { Random } from '../../util/random.js';
import { type Tensor, float32, int64 } from '../../util/tensor.js';

export type Model = Backbone & Module;

export interface ModelCase {
  name: string;
  folder: string;
  /** The towers that are made of transformer layers. */
  blocks: readonly Modality[];
  towers: readonly Modality[];
  /** A module that can be trained whole beside LoRA. */
  head: string;
}

const fixture = (name: string): string => fileURLToPath(new URL(`../../../../../fixtures/${name}`, import.meta.url));
const both = ['text', 'vision'] as const;

export const modelCases: readonly ModelCase[] = [
  { name: 'clip/quick-gelu', blocks: both, towers: both, head: 'visual_projection' },
  { name: 'clip/gelu-half', blocks: both, towers: both, head: 'text_projection' },
  { name: 'clip/openai-vit', blocks: both, towers: both, head: 'visual_projection' },
  { name: 'clip/openai-resnet', blocks: ['text'], towers: both, head: 'attnpool' },
  { name: 'siglip/sentencepiece', blocks: both, towers: both, head: 'head' },
  { name: 'vit/model', blocks: ['vision'], towers: ['vision'], head: 'layernorm' },
  { name: 'dinov2/interpolated', blocks: ['vision'], towers: ['vision'], head: 'layernorm' },
  { name: 'dinov2/swiglu', blocks: ['vision'], towers: ['vision'], head: 'layernorm' },
  { name: 'picto', blocks: [], towers: both, head: 'fc2' },
].map((c): ModelCase => ({
  ...c, blocks: c.blocks as readonly Modality[], towers: c.towers as readonly Modality[],
  folder: c.name === 'picto' ? fileURLToPath(new URL('../../../models/picto', import.meta.url)) : fixture(c.name),
}));

export function modelCase(name: string): ModelCase {
  return modelCases.find((c) => c.name === name)!;
}

/** A fresh tree, as a run would load it. */
export async function loadModel({ folder, name }: ModelCase): Promise<Model> {
  const backbone = loadBackbone(await readCheckpoint(folder));
  if (!(backbone instanceof Module)) throw new Error(`${name} is no tree of modules`);
  return backbone;
}

/** What a model is fed: images [N, 3, side, side], and where it reads words, ids [K, tokens]. */
export async function inputsOf({ folder, name }: ModelCase, model: Model): Promise<Record<string, Tensor>> {
  if (name === 'picto') return pictures(model);
  const { tensors } = await readSafetensors(`${folder}/expected.safetensors`);
  return { images: tensors.get('images')!, ...(isDual(model) && { ids: tensors.get('ids')! }) };
}

/** The built-in model has no reference file: noise, and words whose ids are drawn. */
function pictures({ imageSize: side }: Model): Record<string, Tensor> {
  const random = Random.seeded(5);
  const [count, tokens, words, end] = [3, 6, 5000, 0];
  const images = Float32Array.from({ length: count * 3 * side * side }, () => random.normal());
  const ids = Array.from({ length: count * tokens }, (_, i) => (i % tokens < 4 ? 1 + random.integer(words) : end));
  return { images: float32([count, 3, side, side], images), ids: int64([count, tokens], ids) };
}
