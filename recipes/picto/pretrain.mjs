/**
 * Trains PictoCLIP from the beginning: `node recipes/picto/pretrain.mjs --work .scion/picto --out DIR`. A second call
 * goes on from the last checkpoint in the work folder.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  Random, contrastive, fromFloat64, newPictoClip, pretrain, readTokenizer, toFloat64, writeSafetensors,
} from 'scion-peft';
import { openWork } from '../work-folder.mjs';
import { batchMaker, plainBatch } from './batches.mjs';
import { emojiConcepts } from './emoji.mjs';
import { prepare } from './prepare.mjs';
import { endId, makeTokenizer } from './vocabulary.mjs';

const { values: flags } = parseArgs({
  options: {
    work: { type: 'string', default: '.scion/picto' },
    out: { type: 'string', default: 'packages/scion/models/picto' },
    steps: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    settings: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'settings.json') },
  },
});
const settings = JSON.parse(readFileSync(flags.settings, 'utf8'));
if (flags.steps) settings.steps = Number(flags.steps);

const data = join(flags.work, 'data');
const list = existsSync(join(data, 'list.json')) ? JSON.parse(readFileSync(join(data, 'list.json'), 'utf8')) : await prepare(data);
const pictures = readFileSync(join(data, 'pictures.rgb'));
const emoji = emojiConcepts();

// some pictures are kept back to watch the training; they are part of no test
const order = Random.seeded(settings.seed).child('watched').shuffle(list.map((_, row) => row));
const watched = order.slice(0, settings.watched);
const shown = order.slice(settings.watched).map((row) => ({ ...list[row], row }));

const concepts = [...new Set(list.map((e) => e.concept))];
const made = makeTokenizer([...concepts, ...concepts.flatMap((c) => emoji.get(c)?.tags ?? []),
  'a an the of icon icons pictogram emoji drawing photo symbol picture sign']);
const folder = join(flags.work, 'run');
mkdirSync(folder, { recursive: true });
const config = {
  architectures: ['PictoClip'], ...settings.model,
  text_config: { ...settings.model.text_config, vocab_size: made.size, eos_token_id: endId },
};
const files = {
  'config.json': config,
  'tokenizer.json': made.json,
  'tokenizer_config.json': { tokenizer_class: 'PreTrainedTokenizerFast', model_max_length: settings.model.text_config.max_position_embeddings, unk_token: '[UNK]', eos_token: '[SEP]', pad_token: '[SEP]' },
  'preprocessor_config.json': {
    image_processor_type: 'CLIPImageProcessor', do_resize: true, size: { shortest_edge: 64 }, resample: 3,
    do_center_crop: true, crop_size: { height: 64, width: 64 }, do_rescale: true, rescale_factor: 1 / 255,
    do_normalize: true, image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5], do_convert_rgb: true,
  },
};
for (const [name, content] of Object.entries(files)) {
  writeFileSync(join(folder, name), `${JSON.stringify(content, null, name === 'tokenizer.json' ? 0 : 2)}\n`);
}
const tokenizer = await readTokenizer(folder);
const shared = { list, pictures, emoji, tokenizer, settings };

const model = newPictoClip(config);
const names = new Set([...model.parameters()].map(([name]) => name));
const { resume, read, save, log, runtime, signal } = await openWork(folder);
let [sum, count, since] = [0, 0, performance.now()];
try {
  await pretrain({
    runtime, objective: contrastive(model), seed: settings.seed, threads: Number(flags.threads), signal,
    steps: settings.steps, warmup: settings.warmup, lr: settings.lr, weightDecay: settings.weight_decay,
    labelSmoothing: settings.label_smoothing, maxGradNorm: settings.max_grad_norm,
    batch: batchMaker({ ...shared, shown, seed: settings.seed }),
    checkpointEvery: settings.checkpoint_every,
    onStep: (step, loss) => {
      [sum, count] = [sum + loss, count + 1];
      if (step % 50 === 0) {
        const seconds = (performance.now() - since) / 1000;
        log({ step, loss: sum / count, images_per_second: (count * settings.batch) / seconds });
        process.stderr.write(`step ${step} of ${settings.steps}: loss ${(sum / count).toFixed(3)}, `
          + `${((count * settings.batch) / seconds).toFixed(0)} pictures a second\n`);
        [sum, count, since] = [0, 0, performance.now()];
      }
    },
    onCheckpoint: save,
    validation: {
      batches: [plainBatch({ ...shared, rows: watched })],
      onScore: (step, score) => {
        log({ step, ...score });
        process.stderr.write(`step ${step}: ${(100 * score.accuracy).toFixed(1)} % of ${watched.length} watched pictures named right `
          + `among ${concepts.length}\n`);
      },
    },
    ...(resume ? { resume } : {}),
  });
  const tensors = await read();
  mkdirSync(flags.out, { recursive: true });
  await writeSafetensors(join(flags.out, 'model.safetensors'), Object.fromEntries([...names].map((name) => [name, fromFloat64('float16', tensors.get(name).shape, toFloat64(tensors.get(name)))])), { format: 'pt' });
  for (const name of Object.keys(files)) copyFileSync(join(folder, name), join(flags.out, name));
} finally {
  await runtime.close();
}
