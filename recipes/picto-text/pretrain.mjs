/**
 * Trains PictoRoBERTa or PictoGPT from the beginning: `node recipes/picto-text/pretrain.mjs roberta --seconds 2700`. A
 * second call goes on from the last checkpoint in the work folder; `--steps` then changes how many there will be, as
 * long as the learning rate has not begun to fall.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  causalLanguageModelling, fromFloat64, maskedLanguageModelling, newGpt2, newRoberta, pretrain, toFloat64, writeSafetensors,
} from 'scion-peft';
import { openWork } from '../work-folder.mjs';
import { causalBatches, maskedBatches } from './batches.mjs';
import { textRows } from './texts.mjs';
import { layouts } from './vocabulary.mjs';

/** What transformers calls Conv1D: these matrices of GPT-2 lie in a file as [in, out]. */
const conv1d = /\.(c_attn|c_proj|c_fc)\.weight$/;

const { values: flags, positionals: [layout] } = parseArgs({
  allowPositionals: true,
  options: {
    work: { type: 'string', default: '.scion/picto-text' },
    out: { type: 'string' },
    steps: { type: 'string' },
    seconds: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    settings: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'settings.json') },
  },
});
const kinds = {
  roberta: {
    name: 'picto-roberta', objective: (config) => maskedLanguageModelling(newRoberta(config)), batches: maskedBatches,
  },
  gpt2: { name: 'picto-gpt', objective: (config) => causalLanguageModelling(newGpt2(config)), batches: causalBatches },
};
if (!Object.hasOwn(kinds, layout ?? '')) {
  process.stderr.write(`${layout ?? 'no model'}: expected ${Object.keys(kinds).join(' or ')}\n`);
  process.exit(2);
}
const kind = kinds[layout];
const settings = JSON.parse(readFileSync(flags.settings, 'utf8'));
const own = settings[layout];
const folder = join(flags.work, kind.name);
mkdirSync(folder, { recursive: true });

const { tokenizer, train, heldOut } = textRows(layout, settings);
const specialIds = Object.fromEntries(['bos', 'eos', 'pad'].map((use) =>
  [`${use}_token_id`, tokenizer.id(layouts[layout].config[`${use}_token`])]));
const config = { ...own.config, vocab_size: tokenizer.size, ...specialIds };
const files = { 'config.json': config, ...tokenizer.files };
for (const [name, content] of Object.entries(files)) {
  const indent = name.endsWith('config.json') ? 2 : 0;
  const text = typeof content === 'string' ? content : `${JSON.stringify(content, null, indent)}\n`;
  writeFileSync(join(folder, name), text);
}

const ids = {
  begin: specialIds.bos_token_id, pad: specialIds.pad_token_id, mask: tokenizer.id('<mask>'),
  special: layouts[layout].first.length, size: tokenizer.size,
};
const batchesOf = (rows, seed) => kind.batches({ ...own, rows, ids, seed });
const batch = batchesOf(train, settings.seed);
const watched = batchesOf(heldOut, settings.seed + 1);
const watchedBatches = Array.from({ length: Math.floor(heldOut.length / own.batch) }, (_, i) => watched(i));
const tokensOf = (rows) => rows.reduce((sum, { length }) => sum + length, 0);
process.stderr.write(`${tokensOf(train)} tokens in ${train.length} rows; `
  + `${tokensOf(heldOut)} kept back in ${heldOut.length}\n`);

const objective = kind.objective(config);
const parameters = [...objective.model.parameters()].map(([name]) => name);
const { resume, read, save, log, runtime, signal } = await openWork(folder);
const options = {
  runtime, objective, batch, seed: settings.seed, threads: Number(flags.threads), signal,
  lr: own.lr, warmup: settings.warmup, weightDecay: settings.weight_decay, betas: settings.betas,
  labelSmoothing: 0, maxGradNorm: settings.max_grad_norm,
};

/** As many steps as fit in the time, by how long the first ones take; kept, so that a second call has as many. */
async function plannedSteps() {
  const path = join(folder, 'plan.json');
  if (!flags.steps && existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')).steps;
  let steps = Number(flags.steps);
  if (!flags.steps) {
    const times = [];
    await pretrain({
      ...options, steps: 24, checkpointEvery: 1000, onCheckpoint: () => Promise.resolve(),
      onStep: () => times.push(performance.now()),
    });
    steps = Math.floor((1000 * Number(flags.seconds ?? 2700) * (times.length - 4)) / (times.at(-1) - times[3]));
  }
  writeFileSync(path, `${JSON.stringify({ steps })}\n`);
  return steps;
}

/** In float16, a matrix by its columns where `transposed`. */
function stored({ shape, ...tensor }, transposed) {
  const values = toFloat64({ shape, ...tensor });
  if (!transposed) return fromFloat64('float16', shape, values);
  const [rows, columns] = shape;
  return fromFloat64('float16', [columns, rows], values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]));
}

try {
  const steps = await plannedSteps();
  const times = (steps * own.batch) / train.length;
  process.stderr.write(`${steps} steps of ${own.batch} rows: ${times.toFixed(1)} times the corpus\n`);
  let [sum, count, since] = [0, 0, performance.now()];
  await pretrain({
    ...options, steps, checkpointEvery: settings.checkpoint_every, ...(resume ? { resume } : {}),
    onStep: (step, loss) => {
      [sum, count] = [sum + loss, count + 1];
      if (step % 100 !== 0) return;
      const seconds = (performance.now() - since) / 1000;
      log({ step, loss: sum / count, steps_per_second: count / seconds });
      process.stderr.write(`step ${step} of ${steps}: loss ${(sum / count).toFixed(3)}, `
        + `${(count / seconds).toFixed(2)} steps a second\n`);
      [sum, count, since] = [0, 0, performance.now()];
    },
    onCheckpoint: save,
    validation: {
      batches: watchedBatches,
      onScore: (step, { loss, accuracy }) => {
        log({ step, held_out: { loss, perplexity: Math.exp(loss), accuracy } });
        process.stderr.write(`step ${step}: held-out loss ${loss.toFixed(3)}, perplexity ${Math.exp(loss).toFixed(1)}, `
          + `${(100 * accuracy).toFixed(1)} % of the words right\n`);
      },
    },
  });
  const tensors = await read();
  const out = flags.out ?? join('packages/scion/models', kind.name);
  mkdirSync(out, { recursive: true });
  const values = Object.fromEntries(parameters.map((name) =>
    [name, stored(tensors.get(name), layout === 'gpt2' && conv1d.test(name))]));
  await writeSafetensors(join(out, 'model.safetensors'), values, { format: 'pt' });
  for (const name of Object.keys(files)) copyFileSync(join(folder, name), join(out, name));
} catch (error) {
  if (error.kind !== 'interrupted') throw error;
  process.stderr.write(`${error.message}; the same command goes on from there\n`);
  process.exitCode = 1;
} finally {
  await runtime.close();
}
