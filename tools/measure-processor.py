"""Compares Scion's image processing with transformers' CLIPImageProcessor on Pillow, and writes fixtures/images.

    python3 tools/measure-processor.py --fixtures                 # tiny pictures and what Pillow makes of them
    npm run build && python3 tools/measure-processor.py FOLDER    # the difference on photographs in FOLDER, and speed

Needs pillow, numpy and transformers (made with 12.3.0, 2.4.6 and 5.23.0). Pillow 13 swaps
the passes of some resizes; see docs/image-processing.md. The measurement works in a temporary folder.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32).reshape(3, 1, 1)

# Variants of the same work, each writing [N, 3, SIZE, SIZE] float32 and its processor time (of all threads: what one
# core does, whatever else the machine is busy with). PNG copies by Pillow take the JPEG decoder out of the comparison.
SCRIPT = """
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
const { folder, dist, size } = JSON.parse(readFileSync(0, 'utf8'));
const { parseImageProcessor, processImage, processPixels } = await import(`${dist}/data/image-processor.js`);
const { decodeImage } = await import(`${dist}/data/image-decode.js`);
const sharp = createRequire(`${dist}/data/image-decode.js`)('sharp');
sharp.concurrency(1);
const processor = parseImageProcessor({});
const files = JSON.parse(readFileSync(`${folder}/files.json`, 'utf8'));
// the same sizes and crop as CLIPImageProcessor, so that only the resizing differs
const resized = (options) => async (file) => {
  const { autoOrient: { width, height } } = await sharp(file).metadata();
  const scale = size / Math.min(width, height);
  const box = { width: Math.floor(width * scale + 1e-9), height: Math.floor(height * scale + 1e-9) };
  const { data, info } = await sharp(file, { ignoreIcc: true, autoOrient: true })
    .resize({ ...box, fit: 'fill', ...options })
    .extract({ left: (box.width - size) >> 1, top: (box.height - size) >> 1, width: size, height: size })
    .toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return processPixels({ data, width: info.width, height: info.height }, processor);
};
const variants = {
  'scion': (file) => processImage(file, processor),
  'scion, decoded by Pillow': (file, i) => processImage(`${folder}/${i}.png`, processor),
  'sharp, cubic without shrink-on-load': resized({ kernel: 'cubic', fastShrinkOnLoad: false }),
  'sharp, cubic': resized({ kernel: 'cubic' }),
  'sharp, lanczos3 (its default)': resized({}),
};
let pixels = 0;
const worst = [];
for (const [i, file] of files.entries()) {
  const [a, b] = [await decodeImage(file), await decodeImage(`${folder}/${i}.png`)];
  pixels += a.data.length;
  worst.push(a.data.reduce((m, v, k) => Math.max(m, Math.abs(v - b.data[k])), 0));
}
const out = { decode: { levels: pixels, max: Math.max(...worst) }, seconds: {} };
for (const [name, run] of Object.entries(variants)) {
  const all = new Float32Array(files.length * 3 * size * size);
  out.seconds[name] = [];
  for (let pass = 0; pass < 3; pass++) {
    const start = process.cpuUsage();
    for (const [i, file] of files.entries()) all.set(await run(file, i), i * 3 * size * size);
    const { user, system } = process.cpuUsage(start);
    out.seconds[name].push((user + system) / 1e6);
  }
  writeFileSync(`${folder}/${name}.f32`, all);
}
console.log(JSON.stringify(out));
"""


def opened(path):
    return ImageOps.exif_transpose(Image.open(path))


def reference(processor, image):
    return processor(image, return_tensors='np')['pixel_values'][0]


def measure(photos: Path, dist: Path) -> None:
    files = sorted(p for p in photos.rglob('*') if p.suffix.lower() in {'.jpg', '.jpeg', '.png', '.webp'})
    processor = CLIPImageProcessorPil()
    with tempfile.TemporaryDirectory() as folder:
        for i, file in enumerate(files):
            opened(file).convert('RGB').save(f'{folder}/{i}.png', compress_level=1)
        Path(folder, 'files.json').write_text(json.dumps([str(f.resolve()) for f in files]))
        seconds = []
        for _ in range(3):
            start = time.process_time()
            expected = np.stack([reference(processor, opened(f)) for f in files])
            seconds.append(time.process_time() - start)
        task = json.dumps({'folder': folder, 'dist': str(dist.resolve()), 'size': SIZE})
        ran = subprocess.run(['node', '--input-type=module', '-e', SCRIPT], input=task, stdout=subprocess.PIPE,
                             text=True, check=True, env={**os.environ, 'UV_THREADPOOL_SIZE': '1'})
        result = json.loads(ran.stdout)
        print(f'{len(files)} pictures; decoding: {result["decode"]["levels"]} levels, largest difference '
              f'{result["decode"]["max"]}')
        print('| variant | mean (levels) | max (levels) | mean | max | images per second of one core |\n'
              + '| --- ' * 6 + '|')
        print(f'| CLIPImageProcessor on Pillow | | | | | {len(files) / np.median(seconds):.0f} |')
        for name, times in result['seconds'].items():
            actual = np.fromfile(f'{folder}/{name}.f32', np.float32).reshape(expected.shape)
            d = np.abs(actual - expected)
            levels = d * STD * 255
            print(f'| {name} | {levels.mean():.4f} | {levels.max():.1f} | {d.mean():.5f} | {d.max():.3f} '
                  f'| {len(files) / np.median(times):.0f} |')


def sources():
    """Pictures with edges, gradients and noise, small enough to be kept in the repository."""
    rng = np.random.default_rng(11)

    def drawing(width, height):
        y, x = np.mgrid[:height, :width]
        waves = 127 + 90 * np.sin(x[..., None] * [0.9, 0.31, 0.11]) * np.cos(y[..., None] * [0.2, 0.7, 0.05])
        stripes = ((x // 3 + y // 5) % 2)[..., None] * [60, -40, 30]
        return (waves + stripes + rng.integers(-25, 26, (height, width, 3))).clip(0, 255).astype(np.uint8)

    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = np.concatenate([drawing(21, 17), rng.integers(0, 256, (17, 21, 1), np.uint8)], 2)
    cmyk = np.concatenate([drawing(32, 24), drawing(32, 24)[..., :1]], 2)
    return {
        'small.png': (Image.fromarray(drawing(23, 17)), {}),
        'wide.png': (Image.fromarray(drawing(64, 24)), {}),
        'photo.jpg': (Image.fromarray(drawing(64, 48)), {'quality': 85}),
        'turned.jpg': (Image.fromarray(drawing(40, 24)), {'quality': 90, 'exif': turned}),
        'cmyk.jpg': (Image.fromarray(cmyk, 'CMYK'), {'quality': 92}),
        'grey.png': (Image.fromarray(drawing(19, 26)[..., 1]), {}),
        'alpha.png': (Image.fromarray(alpha), {}),
        'grey-alpha.png': (Image.fromarray(np.ascontiguousarray(alpha[..., 2:])), {}),
        'palette.gif': (Image.fromarray(drawing(24, 20)).quantize(32), {'transparency': 3}),
        'photo.webp': (Image.fromarray(drawing(32, 28)), {'quality': 80}),
    }


CASES = [
    ('small.png', {'size': {'shortest_edge': 9}, 'crop_size': 9}),
    ('small.png', {'size': {'shortest_edge': 31}, 'crop_size': {'height': 31, 'width': 33}}),
    ('small.png', {'size': {'shortest_edge': 9}, 'crop_size': 9, 'resample': 2}),
    ('small.png', {'size': {'shortest_edge': 9}, 'crop_size': 9, 'resample': 1}),
    ('small.png', {'size': {'shortest_edge': 9}, 'crop_size': 9, 'resample': 0}),
    ('small.png', {'size': {'shortest_edge': 27}, 'crop_size': 20, 'resample': 1}),
    ('small.png', {'size': {'height': 12, 'width': 30}, 'do_center_crop': False}),
    ('small.png', {'size': {'height': 17, 'width': 10}, 'do_center_crop': False}),
    ('small.png', {'size': {'height': 8, 'width': 23}, 'do_center_crop': False}),
    ('small.png', {'do_resize': False, 'crop_size': {'height': 20, 'width': 12}}),
    ('small.png', {'size': {'shortest_edge': 9}, 'crop_size': {'height': 14, 'width': 15}}),
    ('wide.png', {'size': {'shortest_edge': 7}, 'crop_size': 7}),
    ('wide.png', {'size': {'shortest_edge': 10}, 'crop_size': 10, 'do_normalize': False}),
    ('wide.png', {'size': {'shortest_edge': 10}, 'crop_size': 10, 'do_rescale': False}),
    ('wide.png', {'size': {'shortest_edge': 10}, 'crop_size': 10, 'rescale_factor': 0.01,
                  'image_mean': [0.5, 0.4, 0.3], 'image_std': [0.2, 0.3, 0.5]}),
    *((name, {'size': {'shortest_edge': 12}, 'crop_size': 12}) for name in
      ('photo.jpg', 'turned.jpg', 'cmyk.jpg', 'grey.png', 'alpha.png', 'grey-alpha.png', 'palette.gif', 'photo.webp')),
]


def write_fixtures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (image, options) in sources().items():
        image.save(folder / name, **options)
    listed = []
    for i, (source, config) in enumerate(CASES):
        output = f'case-{i:02d}.npy'
        np.save(folder / output, reference(CLIPImageProcessorPil(**config), opened(folder / source)).astype(np.float32))
        listed.append({'source': source, 'config': config, 'output': output})
    lines = ',\n'.join(f'  {json.dumps(case)}' for case in listed)
    (folder / 'cases.json').write_text(f'[\n{lines}\n]\n')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('photos', nargs='?', type=Path, help='folder with photographs')
    parser.add_argument('--dist', type=Path, default=ROOT / 'packages/scion/dist', help='the built library')
    parser.add_argument('--fixtures', action='store_true', help='write fixtures/images')
    args = parser.parse_args()
    if args.fixtures:
        write_fixtures(ROOT / 'fixtures/images')
    if args.photos:
        measure(args.photos, args.dist)
