/** `scion features`: from pictures to a feature file. */
import { dirname } from 'node:path';
import type { Command } from 'commander';
import {
  type Device,
  type Issue,
  type PictureInput,
  ScionError,
  describeField,
  encodePictures,
  pictureIssues,
  usageError,
  writeFeatureFile,
} from '../../index.js';
import { Progress, interruptible, makeFolder, print, watchSource } from '../output.js';
import { addFlags, deviceFlag, deviceOf, pictureFlags, putFlags, withFlagNames } from '../recipe-flags.js';

export function addFeatures(program: Command): void {
  const command = program
    .command('features')
    .summary('encode pictures and class names with a backbone')
    .description(
      'Writes the feature file that train, eval, predict and compare take. Pictures: a folder with a folder per class ' +
        '(below train, val and test, or without them), a CSV or JSONL manifest (path, label, split), or a CoOp split.',
    )
    .option('--out <file>', 'feature file to write (.safetensors)');
  addFlags(command, pictureFlags);
  command
    .option('--batch-size <n>', 'pictures in one run', '16')
    .option('--dtype <type>', 'of the stored features: float32 or float16', 'float32')
    .option('--threads <n>', 'threads of ONNX Runtime; all cores where absent')
    .option(deviceFlag.flag, describeField(deviceFlag.path))
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Example:
  scion features --data photos --model openai/clip-vit-base-patch32 --out photos.safetensors
  scion train --features photos.safetensors --out runs/photos`,
    )
    .action((options: Record<string, unknown>) => withFlagNames(options, [...pictureFlags, deviceFlag], () => run(options)));
}

async function run(options: Record<string, unknown>): Promise<void> {
  const { input, out, dtype, ...machine } = checked(options);
  await makeFolder(dirname(out));
  const progress = new Progress(true);
  const started = performance.now();
  const { content, pictures } = await encodePictures(input, {
    ...watchSource(progress),
    ...machine,
    signal: interruptible(),
  });
  await writeFeatureFile(out, content, dtype);
  const seconds = (performance.now() - started) / 1000;
  const rows = Object.fromEntries(
    (['train', 'val', 'test'] as const).flatMap((s) => (content[s] ? [[s, content[s].labels.length]] : [])),
  );
  const classes = content.classNames.length;
  const templates = content.text?.shape[1];
  const dim = (content.train ?? content.test ?? content.val)?.features.shape[1];
  print(
    options.json === true,
    { out, model: pictures.model.name, classes, templates, dim, rows, left_out: pictures.left_out, seconds },
    () =>
      [
        `${classes} classes, ${Object.entries(rows)
          .map(([s, n]) => `${n} ${s}`)
          .join(' and ')} rows, features of ${dim} numbers in ${seconds.toFixed(1)} s`,
        ...(pictures.left_out.length ? [`pictures left out: ${pictures.left_out.length}`] : []),
        `feature file: ${out}`,
      ].join('\n'),
  );
}

/** All that is wrong with the flags, at once. */
function checked(options: Record<string, unknown>): {
  input: PictureInput;
  out: string;
  dtype: 'float16' | 'float32';
  batchSize: number;
  threads: number | undefined;
  device: Device | undefined;
} {
  const issues: Issue[] = [];
  const input: Record<string, unknown> = {};
  putFlags(input, options, pictureFlags, issues);
  if (options.data) issues.push(...pictureIssues(input as PictureInput));
  else issues.push({ path: '--data', message: 'missing: name the folder or manifest of pictures' });
  const out = typeof options.out === 'string' ? options.out : '';
  if (!out) {
    issues.push({ path: '--out', message: 'missing: name the feature file to write, e.g. --out photos.safetensors' });
  } else if (!out.endsWith('.safetensors')) {
    issues.push({ path: '--out', message: `${out}: expected a name that ends with .safetensors` });
  }
  const { dtype } = options;
  if (dtype !== 'float16' && dtype !== 'float32') {
    issues.push(...usageError('--dtype', `${String(dtype)}: expected float32 or float16`).issues);
  }
  const count = (value: unknown, flag: string): number | undefined => {
    if (typeof value !== 'string') return undefined;
    if (!/^[1-9]\d{0,4}$/.test(value))
      issues.push({ path: flag, message: `${value}: expected a whole number from 1 on` });
    return Number(value);
  };
  const [batchSize, threads] = [count(options.batchSize, '--batch-size')!, count(options.threads, '--threads')];
  const device = deviceOf(options.device as string | undefined, issues);
  if (issues.length) throw new ScionError('usage', issues);
  return { input: input as PictureInput, out, dtype: dtype as 'float16' | 'float32', batchSize, threads, device };
}
