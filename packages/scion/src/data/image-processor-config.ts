/** Writes what is done to pictures as a `preprocessor_config.json`. */
import type { ImageProcessor, ImageSettings } from './image-processor.js';

/** PIL.Image.Resampling. */
const filters: Record<ImageSettings['resample'], number> = { nearest: 0, lanczos: 1, bilinear: 2, bicubic: 3 };

/** The configuration of CLIPImageProcessor that prepares pictures as `processor` does; the inverse of parsing one. */
export function imageProcessorConfig({ settings, height, width }: ImageProcessor): Record<string, unknown> {
  const { resize, resample, crop, rescale, mean, std } = settings;
  return {
    image_processor_type: 'CLIPImageProcessor',
    do_resize: resize !== null,
    size: resize === null ? { height, width } : 'shortestEdge' in resize ? { shortest_edge: resize.shortestEdge } : resize,
    resample: filters[resample],
    do_center_crop: crop !== null,
    crop_size: crop ?? { height, width },
    do_rescale: true,
    rescale_factor: rescale,
    do_normalize: true,
    image_mean: mean,
    image_std: std,
    do_convert_rgb: true,
  };
}
