/** `scion features`: from pictures to a feature file. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import {
  type Issue,
  ScionError,
  encodeDataset,
  inputError,
  loadClip,
  makePrompts,
  nodeRuntime,
  parseImageProcessor,
  readCheckpoint,
  readDataset,
  readDescriptions,
  readImageProcessor,
  readTokenizer,
  templateSets,
  usageError,
  writeFeatureFile,
} from '../../index.js';
import { Progress, makeFolder, note, print } from '../output.js';

interface Options {
  data?: string;
  model?: string;
  out?: string;
  template?: string[];
  templates?: string;
  descriptions?: string;
  batchSize: string;
  dtype: string;
  threads?: string;
  skipBad?: boolean;
  json?: boolean;
}

export function addFeatures(program: Command): void {
  program
    .command('features')
    .summary('encode pictures and class names with a CLIP checkpoint')
    .description(
      'Writes the feature file that train, eval, predict and compare take. Pictures: a folder with a folder per class ' +
        '(below train, val and test, or without them), a CSV or JSONL manifest (path, label, split), or a CoOp split.',
    )
    .option('--data <path>', 'folder or manifest of pictures')
    .option('--model <path>', 'folder of a Hugging Face CLIP checkpoint (config.json, weights, tokenizer.json)')
    .option('--out <file>', 'feature file to write (.safetensors)')
    .option(
      '--template <text>',
      'prompt with {} for the class name; may be given several times',
      (v, all?: string[]) => [...(all ?? []), v],
    )
    .option('--templates <set>', `a set of templates: ${Object.keys(templateSets).join(' or ')} (default photo)`)
    .option('--descriptions <file>', 'JSON with texts by class, as further prompts')
    .option('--batch-size <n>', 'pictures in one run', '16')
    .option('--dtype <type>', 'of the stored features: float32 or float16', 'float32')
    .option('--threads <n>', 'threads of ONNX Runtime; all cores where absent')
    .option('--skip-bad', 'leave out pictures that cannot be read, instead of stopping')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Example:
  scion features --data photos --model clip-vit-base-patch32 --out photos.safetensors
  scion train --features photos.safetensors --out runs/photos`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { data, model, out, dtype, batchSize, threads } = checked(options);
  await makeFolder(dirname(out));
  const dataset = await readDataset(data);
  dataset.warnings.forEach((warning) => note(`warning: ${warning}`));
  const clip = loadClip(await readCheckpoint(model));
  const settings = join(model, 'preprocessor_config.json');
  const processor = existsSync(settings)
    ? await readImageProcessor(settings)
    : parseImageProcessor({ size: clip.imageSize, crop_size: clip.imageSize }, settings);
  if (processor.height !== clip.imageSize || processor.width !== clip.imageSize) {
    throw inputError(
      settings,
      `makes pictures of ${processor.height} × ${processor.width}, the model takes ${clip.imageSize} × ` +
        `${clip.imageSize}; use the file of the same checkpoint`,
    );
  }
  const tokenizer = await readTokenizer(model);
  const descriptions = options.descriptions === undefined ? undefined : await readDescriptions(options.descriptions);
  const templates =
    options.template ?? (options.templates ? templateSets[options.templates as keyof typeof templateSets] : undefined);
  const prompts = makePrompts(dataset.classNames, {
    ...(templates ? { templates } : {}),
    ...(descriptions ? { descriptions, where: options.descriptions! } : {}),
  });
  const progress = new Progress(true);
  const bad: string[] = [];
  const runtime = nodeRuntime();
  const started = performance.now();
  try {
    const content = await encodeDataset({
      runtime,
      encoder: clip,
      dataset,
      prompts,
      processor,
      tokenizer,
      textLength: clip.config.text_config.max_position_embeddings,
      model,
      batchSize,
      ...(threads === undefined ? {} : { threads }),
      onProgress: (done, total, what) => progress.update(done, total, what),
      ...(options.skipBad
        ? {
            skipBad: (path, error) => {
              bad.push(path);
              progress.pause();
              note(`left out: ${error.message}`);
            },
          }
        : {}),
    });
    await writeFeatureFile(out, content, dtype);
    const seconds = (performance.now() - started) / 1000;
    const rows = Object.fromEntries(
      (['train', 'val', 'test'] as const).flatMap((s) => (content[s] ? [[s, content[s].labels.length]] : [])),
    );
    const [classes, templatesUsed, dim] = content.text!.shape as [number, number, number];
    print(options.json === true, { out, classes, templates: templatesUsed, dim, rows, left_out: bad, seconds }, () =>
      [
        `${classes} classes, ${Object.entries(rows)
          .map(([s, n]) => `${n} ${s}`)
          .join(' and ')} pictures, features of ${dim} numbers in ${seconds.toFixed(1)} s`,
        ...(bad.length ? [`${bad.length} pictures left out`] : []),
        `feature file: ${out}`,
      ].join('\n'),
    );
  } finally {
    await runtime.close();
  }
}

/** All that is wrong with the flags, at once. */
function checked(options: Options): {
  data: string;
  model: string;
  out: string;
  dtype: 'float16' | 'float32';
  batchSize: number;
  threads?: number;
} {
  const issues: Issue[] = [];
  const required = (name: 'data' | 'model' | 'out', what: string): string => {
    if (!options[name]) issues.push({ path: `--${name}`, message: `missing: name ${what}` });
    return options[name] ?? '';
  };
  const count = (name: 'batchSize' | 'threads', flag: string): number | undefined => {
    const value = options[name];
    if (value === undefined) return undefined;
    if (!/^[1-9]\d{0,4}$/.test(value))
      issues.push({ path: flag, message: `${value}: expected a whole number from 1 on` });
    return Number(value);
  };
  const given = {
    data: required('data', 'the folder or manifest of pictures'),
    model: required('model', 'the folder of a CLIP checkpoint'),
    out: required('out', 'the feature file to write, e.g. --out photos.safetensors'),
  };
  if (given.out && !given.out.endsWith('.safetensors')) {
    issues.push({ path: '--out', message: `${given.out}: expected a name that ends with .safetensors` });
  }
  if (options.dtype !== 'float16' && options.dtype !== 'float32') {
    issues.push({ path: '--dtype', message: `${options.dtype}: expected float32 or float16` });
  }
  if (options.templates !== undefined && !Object.hasOwn(templateSets, options.templates)) {
    issues.push({
      path: '--templates',
      message: `${options.templates}: expected ${Object.keys(templateSets).join(' or ')}`,
    });
  }
  if (options.templates !== undefined && options.template) {
    issues.push(...usageError('--template', 'is given beside --templates; choose one').issues);
  }
  const [batchSize, threads] = [count('batchSize', '--batch-size'), count('threads', '--threads')];
  if (issues.length) throw new ScionError('usage', issues);
  return {
    ...given,
    dtype: options.dtype as 'float16' | 'float32',
    batchSize: batchSize!,
    ...(threads === undefined ? {} : { threads }),
  };
}
