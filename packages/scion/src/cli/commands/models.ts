/** `scion models`: which models work, and public ones that are worth a try. */
import type { Command } from 'commander';
import { archives, builtInModels, bytesInWords, hubSettings, modelTypes, publicCheckpoints } from '../../index.js';
import { print, table } from '../output.js';

/** `151 M`: parameters in millions. */
const millions = (count: number): string => `${Math.round(count / 1e6)} M`;

export function addModels(program: Command): void {
  program
    .command('models')
    .summary('which models work, and good public ones for photographs')
    .description(
      'What --model takes: a built-in model, the folder of a checkpoint, or org/name[@revision] of the Hugging Face hub.',
    )
    .option('--json', 'print as JSON')
    .action(async (options: { json?: boolean }) => {
      const { endpoint, cache, offline } = await hubSettings();
      const checkpoints = publicCheckpoints();
      const width = Math.max(...Object.keys(builtInModels).map(({ length }) => length));
      const facts = { built_in: builtInModels, architectures: modelTypes, checkpoints, archives, endpoint, cache, offline };
      print(options.json === true, facts, () => [
        'Built in, without a download',
        ...Object.entries(builtInModels).map(([name, what]) => `  ${name.padEnd(width)}   ${what}`),
        '',
        `Architectures that work (model_type in config.json): ${modelTypes.join(', ')}; and OpenAI's own CLIP archives`,
        'without a config.json, ResNets among them.',
        '',
        'Public checkpoints for photographs (sizes are approximate)',
        '',
        table(['--model', 'what', 'parameters', 'download', 'for'], checkpoints.map((c) => (
          [c.id, c.title, millions(c.parameters), bytesInWords(c.bytes), c.note]))),
        ...archives.flatMap((a) => [
          '', `${a.title}, ${millions(a.parameters)} parameters, ${bytesInWords(a.bytes)}: ${a.url}`, `  ${a.note}`,
        ]),
        '',
        `Downloaded from ${endpoint}${offline ? ' (not now: HF_HUB_OFFLINE is set)' : ''} into ${cache}, which Python's`,
        'tools share. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN change that. Add @revision, or give',
        '--revision, for a branch, tag or commit. Each checkpoint has its own licence; see its page.',
      ].join('\n'));
    });
}
