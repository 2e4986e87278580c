/** Recipes in YAML and JSON, with flags on top. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readRun, refused, scratch, succeed } from '../support/cli.js';
import { tinyFile } from '../support/features.js';

const folder = await scratch();
let features: string;
let runs = 0;
beforeAll(async () => {
  features = await tinyFile(folder, 'tiny', { train: [12, 6, 9], noise: 1.2 });
});

interface Trained { info: { recipe: Record<string, unknown> }; adapter: Buffer }

async function train(...flags: string[]): Promise<Trained> {
  const out = join(folder, `run ${runs++}`);
  await succeed(['train', '--threads', '1', '--out', out, ...flags]);
  const { info, adapter } = await readRun(out);
  return { info: info as unknown as Trained['info'], adapter };
}

describe('recipe files', () => {
  const recipe = { features: 'tiny.safetensors', method: 'taskres', shots: 4, seed: 7, config: { alpha: 0.25 },
    training: { epochs: 2, lr: 0.01 } };

  test('YAML and JSON mean the same; paths in them start at their folder; the run holds all of it', async () => {
    const yaml = join(folder, 'recipe.yaml');
    await writeFile(yaml,
      'features: tiny.safetensors\nmethod: taskres\nshots: 4\nseed: 7\n'
        + 'config: {alpha: 0.25}\ntraining:\n  epochs: 2\n  lr: 0.01\n');
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(recipe));
    const [a, b] = [await train('--recipe', yaml), await train('--recipe', join(folder, 'recipe.json'))];
    expect(b.adapter.equals(a.adapter)).toBe(true);
    expect(a.info.recipe).toEqual({
      ...recipe, features, threads: 1, validation: 'auto', search: 'auto', strict_shots: false, device: 'cpu',
      training: {
        optimizer: 'adam', lr: 0.01, epochs: 2, batch_size: 256, schedule: 'cosine', warmup_epochs: 0,
        label_smoothing: 0, recompute: false, class_weights: 'none', checkpoint: 'best',
      },
    });
  });

  test('flags come on top', async () => {
    const { info } = await train('--recipe', join(folder, 'recipe.json'), '--seed', '8', '--lr', '0.5', '--set',
      'alpha=1', '--shots', 'all');
    expect(info.recipe).toMatchObject({ seed: 8, shots: 'all', config: { alpha: 1 },
      training: { lr: 0.5, epochs: 2 } });
  });

  test('everything that is wrong at once, unknown keys with the nearest', async () => {
    const path = join(folder, 'wrong.yaml');
    await writeFile(path,
      `features: ${basename(features)}\nmethod: taskres\nshotz: 4\nseed: 1.5\n`
        + 'training: {lrate: 1, epochs: 0}\nconfig: {alfa: 1}\n');
    const stderr = await refused(folder, 2, ['train', '--recipe', path, '--out', join(folder, 'r'), '--patience', '0'],
      [
      /^error: shotz: unknown key "shotz"; did you mean shots\?/m, /^error: seed: 1.5: /m,
      /^error: training\.lrate: unknown key "lrate"; .*known: optimizer, lr/m, /^error: training\.epochs: 0: /m,
      /^error: --patience: 0: /m, /^error: config\.alfa: unknown key "alfa"; did you mean alpha\?/m,
    ]);
    expect(stderr.match(/^error: /gm)).toHaveLength(6);
  });

  test.each([
    { name: 'no.yaml', text: undefined, says: 'cannot be read; check the path' },
    { name: 'broken.yaml', text: 'a: [1', says: 'is no YAML' },
    { name: 'broken.json', text: '{"a": 1,}', says: 'is no JSON' },
    { name: 'list.yaml', text: '- 1', says: 'is no recipe, expected keys and values' },
    { name: 'bomb.yaml', text: 'a: &a [1]\nb: &b [*a,*a]\nc: [*b,*b]', says: 'is no YAML' },
  ])('$name: $says', async ({ name, text, says }) => {
    if (text !== undefined) await writeFile(join(folder, name), text);
    await refused(folder, 1, ['train', '--recipe', join(folder, name), '--out', join(folder, 'r')], [name, says]);
  });

  test('a recipe of __proto__ changes nothing but is refused', async () => {
    await writeFile(join(folder, 'proto.json'), '{"__proto__": {"method": "taskres"}, "features": "tiny.safetensors"}');
    await refused(folder, 2, ['train', '--recipe', join(folder, 'proto.json'), '--set', '__proto__.x=1', '--out',
      join(folder, 'r')], ['__proto__']);
  });

  test('features are found again from anywhere', async () => {
    const cwd = join(folder, 'elsewhere');
    await mkdir(cwd);
    await succeed(['train', '--features', '../tiny.safetensors', '--method', 'zero-shot', '--out', 'run'], { cwd });
    const info = JSON.parse(await readFile(join(cwd, 'run', 'run.json'), 'utf8')) as { features: { path: string } };
    expect(info.features.path).toBe(features);
    await succeed(['eval', join(cwd, 'run')]);
  });
});
