/**
 * Public checkpoints that are worth a try, as data. Parameters were counted from the published configurations; sizes
 * are those of the file of weights, rounded.
 */
import { modelTypes } from './index.js';

export interface PublicCheckpoint {
  /** What `--model` takes. */
  readonly id: string;
  /** The `model_type` of its config.json. */
  readonly architecture: string;
  readonly title: string;
  readonly parameters: number;
  /** Bytes to download, approximately. */
  readonly bytes: number;
  readonly note: string;
}

const all: readonly PublicCheckpoint[] = [
  {
    id: 'openai/clip-vit-base-patch32', architecture: 'clip', title: 'CLIP ViT-B/32', parameters: 151_277_313,
    bytes: 605e6, note: 'the quickest; a good start for photographs',
  },
  {
    id: 'openai/clip-vit-base-patch16', architecture: 'clip', title: 'CLIP ViT-B/16', parameters: 149_620_737,
    bytes: 599e6, note: 'sees smaller things than B/32, about four times its work; common in papers on few-shot learning',
  },
  {
    id: 'openai/clip-vit-large-patch14', architecture: 'clip', title: 'CLIP ViT-L/14', parameters: 427_616_513,
    bytes: 1.71e9, note: 'better again, and slow on a laptop',
  },
  {
    id: 'google/siglip-base-patch16-224', architecture: 'siglip', title: 'SigLIP ViT-B/16', parameters: 203_155_970,
    bytes: 813e6, note: 'trained with a sigmoid loss; often ahead of CLIP at its size',
  },
  {
    id: 'google/siglip-so400m-patch14-384', architecture: 'siglip', title: 'SigLIP so400m/14', parameters: 877_960_498,
    bytes: 3.51e9, note: 'larger pictures and the best of these; wants time and memory',
  },
];

/** Those whose architecture is supported, by default in the table of backbones. */
export function publicCheckpoints(supported: readonly string[] = modelTypes): PublicCheckpoint[] {
  return all.filter(({ architecture }) => supported.includes(architecture));
}

/** Public checkpoints that are a file to download by hand, with the tokenizer put beside it. */
export const archives = [
  {
    title: 'CLIP RN50', parameters: 102_007_137, bytes: 256e6,
    url: 'https://openaipublic.azureedge.net/clip/models/' +
      'afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt',
    note: 'put tokenizer.json of openai/clip-vit-base-patch32 beside it and give the file: --model RN50.pt',
  },
] as const;
