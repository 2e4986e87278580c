#!/usr/bin/env node
/** The command `scion`. */
import { Command, CommanderError } from 'commander';
import { version } from '../index.js';
import { addAsk } from './commands/ask.js';
import { addClasses } from './commands/classes.js';
import { addCompare } from './commands/compare.js';
import { addExport } from './commands/export.js';
import { addFeatures } from './commands/features.js';
import { addLook } from './commands/look.js';
import { addMerge } from './commands/merge.js';
import { addModels } from './commands/models.js';
import { addServe } from './commands/serve.js';
import { addTrain } from './commands/train.js';
import { addUse } from './commands/use.js';
import { addWorld } from './commands/world.js';
import { report } from './output.js';

const program = new Command('scion')
  .description('Adapt a frozen vision-language model to your own images and words.')
  .version(version)
  .showHelpAfterError('(scion --help, or scion <command> --help, shows what there is)')
  .exitOverride()
  .addHelpText(
    'after',
    `
First steps:
  scion compare --features FILE --methods zero-shot,tip-adapter-f,graph-adapter --shots 1,4,16 --html report.html
  scion train --data FOLDER --model openai/clip-vit-base-patch32 --shots 16 --out runs/pictures
  scion predict runs/pictures new.jpg
  scion export runs/pictures --to onnx exported
  scion world world --scenes 2000
  scion train --task vqa --data world --set routing=mul --out runs/answers
  scion predict runs/answers new.jpg --question "what colour is the car?"
  scion serve runs/pictures
  scion train --features FILE --method graph-adapter --shots 16 --out runs/first
  scion eval runs/first
Results are on stdout, progress on stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.`,
  );
addFeatures(program);
addTrain(program);
addUse(program);
addAsk(program);
addCompare(program);
addClasses(program);
addExport(program);
addMerge(program);
addModels(program);
addLook(program);
addServe(program);
addWorld(program);
for (const command of program.commands) command.exitOverride();

// a reader that closes early (scion eval … | head) is no failure
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else process.exitCode = report(error);
}
