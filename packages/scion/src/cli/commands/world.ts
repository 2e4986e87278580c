/** `scion world`: a data set of scenes with questions and captions, made on the spot. */
import type { Command } from 'commander';
import { generateWorld, usageError } from '../../index.js';
import { Progress, interruptible, print, table } from '../output.js';

interface Options {
  scenes: string;
  seed: string;
  questionsPerScene: string;
  kinds?: string;
  styles?: string;
  json?: boolean;
}

export function addWorld(program: Command): void {
  program
    .command('world <folder>')
    .summary('PictoWorld: scenes of pictograms with questions and captions')
    .description('Makes scenes of one to four pictograms, with questions as VQAv2 and captions as COCO write them, in a new folder.')
    .option('--scenes <n>', 'scenes: eight tenths for training, a tenth each for validation and test', '10000')
    .option('--seed <n>', 'the same seed gives the same world', '1')
    .option('--questions-per-scene <n>', 'most questions about a scene', '4')
    .option('--kinds <names>', 'kinds of things, separated by commas (default: all)')
    .option('--styles <names>', 'icon sets of training and validation, separated by commas (default: all but the held-out)')
    .option('--json', 'print the numbers as JSON')
    .action(async (folder: string, options: Options) => {
      const progress = new Progress(options.json !== true);
      const counts = await generateWorld(folder, {
        scenes: whole('--scenes', options.scenes), seed: whole('--seed', options.seed),
        questionsPerScene: whole('--questions-per-scene', options.questionsPerScene),
        ...(options.kinds !== undefined && { kinds: list(options.kinds) }),
        ...(options.styles !== undefined && { styles: list(options.styles) }),
        onProgress: (done, total) => progress.update(done, total, 'scenes'), signal: interruptible(),
      });
      print(options.json === true, { folder, ...counts }, () => table(['split', 'scenes', 'questions', 'captions'],
        Object.entries(counts).map(([split, c]) => [split, String(c.scenes), String(c.questions), String(c.captions)])));
    });
}

const list = (text: string): string[] => text.split(',').map((s) => s.trim()).filter(Boolean);

function whole(flag: string, text: string): number {
  if (!/^\d+$/.test(text)) throw usageError(flag, `${text}: expected a whole number`);
  return Number(text);
}
