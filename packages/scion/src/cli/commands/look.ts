/** `scion methods`, `scion graph` and `scion doctor`: what there is, what is compiled, whether it runs here. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import {
  type ProgramDescription,
  type RecipeInput,
  checkRuntime,
  offeredDevices,
  describeRecipe,
  describeRun,
  environment,
  getMethod,
  methodNames,
  resolveRecipe,
  usageError,
  version,
  writeAtomically,
} from '../../index.js';
import { Progress, makeFolder, note, print, table, watchSource } from '../output.js';
import { addRecipeFlags, readRecipe, trainFlags, withFlagNames } from '../recipe-flags.js';

export function addLook(program: Command): void {
  program
    .command('methods')
    .summary('the methods, their hyper-parameters and published settings')
    .option('--json', 'print as JSON')
    .action((options: { json?: boolean }) => {
      const methods = methodNames().map((name) => {
        const m = getMethod(name);
        return {
          name,
          title: m.title,
          summary: m.summary,
          paper: m.paper,
          config: m.config.parse({}),
          training: m.training,
          search: m.search,
        };
      });
      print(
        options.json === true,
        methods,
        () =>
          `${table(
            ['method', 'hyper-parameters', 'what it does'],
            methods.map((m) => [
              m.name,
              Object.entries(m.config)
                .flatMap(([k, v]) => (isEmpty(v) ? [] : [`${k}=${String(v)}`]))
                .join(' '),
              m.summary,
            ]),
          )}\n\nChange a hyper-parameter with --set key=value, and the training with --epochs, --lr and so on.`,
      );
    });

  const graph = program
    .command('graph [run|recipe]')
    .summary('the compiled program, to read and to open in Netron')
    .description(
      'Prints the program that Scion compiles: the prologue (run once), the training step and the prediction. ' +
        'Takes a run folder, a recipe file, or the flags of `scion train`; also writes each part as .onnx.',
    )
    .option(
      '--onnx <folder>',
      'where to write the parts as .onnx (default: the run folder; for a recipe, nowhere)',
    )
    .option('--part <name>', 'print only this part: prologue, step, predict-prologue or predict')
    .option('--json', 'print as JSON');
  addRecipeFlags(graph, trainFlags).action(async (target: string | undefined, options: Record<string, unknown>) => {
    const isRun = target !== undefined && (await stat(target).catch(() => undefined))?.isDirectory() === true;
    const description: ProgramDescription = isRun
      ? await describeRun(target)
      : await withFlagNames(options, trainFlags, async () => {
          const from = { ...options, ...(target === undefined ? {} : { recipe: target }) };
          const recipe = await readRecipe<RecipeInput>(from, trainFlags, resolveRecipe);
          return describeRecipe(recipe, watchSource(new Progress(true)));
        });
    const parts = description.parts.filter((p) => options.part === undefined || p.name === options.part);
    if (parts.length === 0) {
      throw usageError(
        '--part',
        `${String(options.part)}: expected one of ${description.parts.map((p) => p.name).join(', ')}`,
      );
    }
    const folder = typeof options.onnx === 'string' ? options.onnx : isRun ? join(target, 'graph') : undefined;
    const written: string[] = [];
    if (folder !== undefined) await makeFolder(folder);
    for (const { name, onnx } of folder === undefined ? [] : description.parts) {
      const file = join(folder!, `${name}.onnx`);
      await writeAtomically(file, [onnx]);
      written.push(file);
    }
    print(
      options.json === true,
      { method: description.method, parts: parts.map(({ name, nodes, text }) => ({ name, nodes, text })), written },
      () => parts.map((p) => `# ${p.name}: ${p.nodes} nodes\n${p.text}`).join('\n'),
    );
    if (written.length) note(`written: ${written.join(', ')}`);
  });

  program
    .command('doctor')
    .summary('whether Scion runs here, and how fast')
    .option('--json', 'print as JSON')
    .action(async (options: { json?: boolean }) => {
      const devices = await offeredDevices();
      const { gflops, seconds } = await checkRuntime();
      const memory = /MemAvailable:\s+(\d+)/.exec(await readFile('/proc/meminfo', 'utf8').catch(() => ''))?.[1];
      const facts = {
        scion: version,
        ...environment(),
        devices: devices.join(', '),
        ...(memory ? { 'memory available': `${(Number(memory) / 2 ** 20).toFixed(1)} GiB` } : {}),
        'ONNX Runtime': `works; first session after ${seconds.toFixed(2)} s`,
        'matrix products': `${gflops.toFixed(0)} GFLOP/s`,
      };
      print(options.json === true, { ok: true, gflops, ...facts }, () =>
        table(['what', 'here'], Object.entries(facts)),
      );
    });
}

/** A list or table that nothing is in says nothing. */
const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;
