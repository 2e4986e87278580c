/** `scion merge`: an adapter added to the weights of its model. */
import type { Command } from 'commander';
import { mergeModel, usageError } from '../../index.js';
import { print } from '../output.js';

interface Options {
  model?: string;
  revision?: string;
  dtype: string;
  json?: boolean;
}

export function addMerge(program: Command): void {
  program
    .command('merge <source> <folder>')
    .summary('an adapted model as a checkpoint of its own')
    .description(
      "Adds what a run (lora, bitfit, layernorm-tuning, full-finetuning), or an adapter of Python's PEFT, has changed to the "
        + 'weights of its model, and writes the whole into a new folder: for --model, and for transformers in Python.',
    )
    .option('--model <name|path>', 'the model of a PEFT adapter; of a run, where it is not where it was in training')
    .option('--revision <name>', 'branch, tag or commit of a model of the hub')
    .option('--dtype <type>', 'of the changed weights: stored (as in the checkpoint), or float32, which rounds nothing', 'stored')
    .option('--json', 'print what was written as JSON')
    .action(async (source: string, folder: string, { model, revision, dtype, json }: Options) => {
      if (dtype !== 'stored' && dtype !== 'float32') throw usageError('--dtype', `${dtype}: expected stored or float32`);
      const merged = await mergeModel(source, folder, { model, revision, dtype });
      print(json === true, { source, ...merged }, () => `${folder}: ${merged.changed.length} weights changed`);
    });
}
