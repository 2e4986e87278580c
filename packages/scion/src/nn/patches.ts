/** Pictures as tokens: patches, and the embeddings of their places. */
import type { Value } from '../ir/graph.js';
import * as b from '../ops/build.js';
import { type Shape, float32 } from '../util/tensor.js';
import { Conv2d } from './conv.js';
import type { Weights } from './layers.js';
import { bind } from './parameter.js';

/** A convolution whose kernel moves by its own size: as a matrix product over the patches, each a row. */
export class PatchEmbedding extends Conv2d {
  constructor(
    weights: Weights, config: { hidden_size: number; num_channels: number; patch_size: number }, bias = true,
  ) {
    const { hidden_size, num_channels, patch_size } = config;
    super(weights, num_channels, hidden_size, patch_size, { stride: patch_size, bias });
  }

  /** images [B, C, H, W] → [patches, B, width], row by row; what is left over at the right and below is not read */
  override forward(images: Value): Value {
    const { graph } = images;
    const { kernel: p, outChannels: width } = this;
    const [batch, channels, height, breadth] = images.shape as [number, number, number, number];
    const [rows, columns] = [Math.floor(height / p), Math.floor(breadth / p)];
    const whole = b.slice(b.slice(images, 2, 0, rows * p), 3, 0, columns * p); // a rest is left over, as by a Conv
    const patches = b.transpose(b.reshape(whole, [batch, channels, rows, p, columns, p]), [2, 4, 0, 1, 3, 5]);
    const weight = b.reshape(bind(graph, this.weight), [width, -1]);
    const bias = this.bias && bind(graph, this.bias);
    const embedded = b.gemm(b.reshape(patches, [rows * columns * batch, -1]), weight, bias, { transB: 1 });
    return b.reshape(embedded, [rows * columns, batch, width]);
  }

  override arrange(y: Value): Value {
    const [batch, channels] = y.shape as [number, number];
    return b.reshape(b.transpose(y, [2, 3, 0, 1]), [-1, batch, channels]);
  }

  override get perChannel(): Shape {
    return [this.outChannels];
  }
}

/**
 * Embeddings of the places of a square grid [side², width] for another grid, [rows · columns, width]: bicubic, as
 * PyTorch's `interpolate(mode='bicubic', align_corners=False)`.
 */
export function interpolatePlaces(places: Value, rows: number, columns: number): Value {
  const { graph } = places;
  const [count, width] = places.shape as [number, number];
  const side = Math.round(Math.sqrt(count));
  if (rows === side && columns === side) return places;
  const along = (size: number): Value => b.constant(graph, float32([size, side], bicubic(side, size)));
  const down = b.matmul(along(rows), b.reshape(places, [side, side * width])); // [rows, side · width]
  const across = b.transpose(b.reshape(down, [rows, side, width]), [1, 0, 2]);
  const all = b.matmul(along(columns), b.reshape(across, [side, rows * width])); // [columns, rows · width]
  return b.reshape(b.transpose(b.reshape(all, [columns, rows, width]), [1, 0, 2]), [rows * columns, width]);
}

/** The weights [to, from] of resampling a line by cubic convolution (Keys, 1981) with a = -0.75, edges repeated. */
function bicubic(from: number, to: number): Float64Array {
  const a = -0.75;
  const near = (x: number): number => ((a + 2) * x - (a + 3)) * x * x + 1; // up to 1 away
  const far = (x: number): number => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; // 1 to 2 away
  const weights = new Float64Array(to * from);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * (from / to) - 0.5;
    const first = Math.floor(centre) - 1;
    for (let k = first; k < first + 4; k++) {
      const distance = Math.abs(centre - k);
      const at = Math.min(from - 1, Math.max(0, k));
      weights[i * from + at]! += distance <= 1 ? near(distance) : far(distance);
    }
  }
  return weights;
}
