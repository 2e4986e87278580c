/** `scion classes add` and `scion classes remove`: a class more or less in a finished run. */
import type { Command } from 'commander';
import { type ChangedRun, addClass, removeClasses, usageError } from '../../index.js';
import { Progress, interruptible, note, print, printable, watchSource } from '../output.js';

interface Options {
  name?: string;
  text?: string[];
  out?: string;
  model?: string;
  cache: boolean;
  json?: boolean;
}

export function addClasses(program: Command): void {
  const classes = program
    .command('classes')
    .summary('a class more or less in a finished run')
    .description('Writes a run with a class more, or some less, into a new folder. What was trained stays as it is.');

  classes
    .command('add <run> [images...]')
    .summary('a class more, from its name and a few pictures')
    .description('Adds a class from its name and a few pictures: files, or folders for all pictures below them.')
    .option('--name <class>', 'the name of the class')
    .option('--text <text...>', 'texts about the class (its name in the templates of the training where not given)')
    .option('--out <folder>', 'the new run folder')
    .option('--model <name|path>', 'the backbone, where it is not where it was in training')
    .option('--no-cache', 'neither take features from the cache nor keep them there')
    .option('--json', 'print the result as JSON')
    .action(async (run: string, images: string[], { name, text, out, model, cache, json }: Options) => {
      if (name === undefined) throw usageError('--name', 'missing: expected the name of the class');
      if (images.length === 0) throw usageError('images', 'missing: name a few pictures of the class');
      const progress = new Progress(json !== true);
      const options = { ...watchSource(progress), model, cache, signal: interruptible() };
      report(await addClass(run, { name, pictures: images, texts: text }, needed(out), options), json);
    });

  classes
    .command('remove <run> <classes...>')
    .summary('some classes less')
    .option('--out <folder>', 'the new run folder')
    .option('--json', 'print the result as JSON')
    .action(async (run: string, names: string[], { out, json }: Options) => {
      report(await removeClasses(run, names, needed(out)), json);
    });
  for (const command of classes.commands) command.exitOverride();
}

function needed(out: string | undefined): string {
  if (out === undefined) throw usageError('--out', 'missing: expected a new folder; the run itself stays as it is');
  return out;
}

function report({ path, info, notes }: ChangedRun, json: boolean | undefined): void {
  print(json === true, { run: path, class_names: info.class_names, notes }, () =>
    `${path}: ${info.class_names.length} classes: ${info.class_names.map(printable).join(', ')}`);
  if (json !== true) notes.forEach((line) => note(`note: ${line}`));
}
