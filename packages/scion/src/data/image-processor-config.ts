/** Writes what is done to pictures as a `preprocessor_config.json`. */
import { type ImageProcessor, resampleFilters } from './image-processor.js';

/** The configuration of CLIPImageProcessor that prepares pictures as `processor` does; the inverse of parsing one. */
export function imageProcessorConfig({ settings, height, width }: ImageProcessor): Record<string, unknown> {
  const { resize, resample, crop, rescale, mean, std } = settings;
  return {
    image_processor_type: 'CLIPImageProcessor',
    do_resize: resize !== null,
    size: resize === null ? { height, width } : 'shortestEdge' in resize ? { shortest_edge: resize.shortestEdge } : resize,
    resample: Number(Object.keys(resampleFilters).find((code) => resampleFilters[Number(code)] === resample)),
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
