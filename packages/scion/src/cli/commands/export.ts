/** `scion export`: a finished run for other programs. */
import type { Command } from 'commander';
import {
  type ExportTarget, type ExportTask, type WeightFormat, exportLanguageRun, exportRun, exportTargets, exportTasks, isLanguageTask, taskOf,
  usageError, weightFormats,
} from '../../index.js';
import { print } from '../output.js';

interface Options {
  to?: string;
  task?: string;
  dtype: string;
  merge: boolean;
  model?: string;
  json?: boolean;
}

const formats = Object.keys(weightFormats);

export function addExport(program: Command): void {
  program
    .command('export <run> <folder>')
    .summary("a run as ONNX, as a model for transformers.js, or as an adapter of Python's PEFT")
    .description(
      'Writes the backbone and what was trained as one model from pixels to class logits into a new folder, with the ' +
        'class names and the preprocessing beside it. The softmax of the logits is what `scion predict` gives. Of a run ' +
        'that answers questions or writes captions, the encoder of pictures and the adapted text model are two models.',
    )
    .option('--to <target>', `what to write: ${exportTargets.join(', ')}`)
    .option('--task <task>', `what a model of classes does: ${exportTasks.join(' (the default) or ')} (asked about any words)`)
    .option('--dtype <formats>', `formats of the weights, with commas: ${formats.join(', ')}`, 'fp32')
    .option('--no-merge', 'leave an adapter beside the weights in the graph, instead of adding it to them')
    .option('--model <name|path>', 'the backbone, where it is not where it was in training')
    .option('--json', 'print what was written as JSON')
    .action(async (run: string, folder: string, { to, task, dtype, merge, model, json }: Options) => {
      if (to === undefined) throw usageError('--to', `missing: expected ${exportTargets.join(', ')}`);
      const words = isLanguageTask(await taskOf(run));
      if (words && task !== undefined) throw usageError('--task', `${task}: ${run} has its own task; leave it out`);
      if (to === 'peft' && (dtype !== 'fp32' || task !== undefined || !merge)) {
        throw usageError('--to', 'peft: an adapter has no --task, --dtype or --no-merge; leave them out');
      }
      // names are checked where they mean something
      const options = { to: to as ExportTarget, dtypes: dtype.split(',') as WeightFormat[], merge, model };
      const exported = words ? await exportLanguageRun(run, folder, options)
        : await exportRun(run, folder, { ...options, task: task as ExportTask });
      const paths = exported.files.map((file) => `${folder}/${file}`);
      print(json === true, { run, to, ...exported }, () => paths.join('\n'));
    });
}
