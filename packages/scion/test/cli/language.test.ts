/** Questions and captions from the command line: the way through, and what is wrong with data, flags and runs. */
import { existsSync } from 'node:fs';
import { cp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ScionError, generateWorld, loadLanguageRun, trainLanguage } from '../../src/index.js';
import { tinyTextModel } from '../../src/trainer/language/testing/text-models.js';
import { expectRefusal, json, pictograms, readRun, refused, scion, scratch, start, succeed, until } from '../support/cli.js';

const folder = await scratch();
const at = (...parts: string[]): string => join(folder, ...parts);
const world = at('world');
const [answers, captions, classes] = [at('answers'), at('captions'), at('classes')];
let gpt: string;
const quick = ['--examples', '40', '--epochs', '1', '--batch-size', '16', '--threads', '1'];
const vqa = (data = world): string[] => ['train', '--task', 'vqa', '--data', data, ...quick];
const caption = (data = world): string[] => ['train', '--task', 'caption', '--data', data, '--text-model', gpt, ...quick];
let image: string;

beforeAll(async () => {
  await generateWorld(world, { scenes: 60, seed: 1 });
  image = join(world, 'test2015', (await readdir(join(world, 'test2015')))[0]!);
  gpt = await tinyTextModel('gpt2/lm-head', folder);
  await Promise.all([
    succeed([...vqa(), '--set', 'routing=mul', '--out', answers]),
    succeed([...caption(), '--out', captions]),
  ]);
  await succeed(['train', '--features', pictograms, '--method', 'zero-shot', '--out', classes]);
}, 120_000);

/** Removed where a test has one. */
const out = at('out');

describe('a comparison', () => {
  test('of questions: a table with differences, a journal that is gone at the end, no cell without tests', async () => {
    const file = at('compared.json');
    const args = ['compare', '--task', 'vqa', '--data', world, ...quick, '--methods', 'lora,lora:routing=mul', '--seeds', '1,2'];
    const text = await succeed([...args, '--json', file]);
    expect(text).toMatch(/^Test accuracy × 100, mean ± deviation over 2 seeds/);
    expect(text).toMatch(/lora:routing=mul +[\d.]+ ± [\d.]+ +[+-]?[\d.]+ ± [\d.]+ \[/);
    const { cells, methods } = JSON.parse(await readFile(file, 'utf8')) as {
      cells: { method: string; seed: number; metrics: { accuracy: number }; trainableParameters: number }[]; methods: object[];
    };
    expect([cells.length, methods.length, existsSync(`${file}.cells`)]).toEqual([4, 2, false]);
    expect(new Set(cells.map(({ trainableParameters: count }) => count)).size, 'routing trains nothing of its own').toBe(1);
    await refused(folder, 2, ['compare', '--task', 'vqa', '--data', world, '--methods', 'lora:training.lr=abc'], ['lora:training.lr=abc']);
    await refused(folder, 2, [...args, '--html', at('x.html')], ['--html', 'use --markdown']);
    const untold = at('untold');
    await cp(world, untold, { recursive: true });
    for (const name of await readdir(untold)) if (/test2015_annotations/.test(name)) await rm(join(untold, name));
    await refused(folder, 1, ['compare', '--task', 'vqa', '--data', untold, ...quick, '--methods', 'lora', '--json', at('untold.json')],
      ['no test examples whose answers or captions are known']);
    expect(existsSync(at('untold.json.cells'))).toBe(false);
  }, 120_000);
});

describe('a run of questions', () => {
  test('train, predict, eval: as text and as JSON', async () => {
    const asked = await json<{ answers: { path: string; answer: string; choices: { answer: string; score: number }[] }[] }>(
      ['predict', answers, image, '--question', 'what color is the dog?', '--top', '3']);
    expect(asked.answers).toHaveLength(1);
    const [{ answer, choices, path }] = asked.answers as [typeof asked.answers[number]];
    expect([path, choices.length, choices[0]!.answer]).toEqual([image, 3, answer]);
    const text = await succeed(['predict', answers, image, '--question', 'what color is the dog?', '--top', '3']);
    expect(text.split('\n').slice(0, 4).map((line) => line.trim().split(/ {2}/).at(-1))).toEqual(
      [answer, ...choices.map((choice) => choice.answer)]);
    const found = await json<Record<string, unknown> & { said: unknown[] }>(['eval', answers]);
    expect(found).toMatchObject({ task: 'vqa', split: 'test', examples: found.said.length });
    const { info } = await readRun(answers);
    const { test: tested } = info.result as { test: { examples: number; metrics: { accuracy: number } } };
    expect([found.accuracy, found.examples]).toEqual([tested.metrics.accuracy, tested.examples]);
    expect(found.perQuestionType).toHaveProperty('is there a');
    expect(await succeed(['eval', answers])).toMatch(/^accuracy [\d.]+ %, \d+ test examples\n\ntype of question/);
  });

  test('stopped by Ctrl-C and gone on with', async () => {
    const [whole, stopped] = [at('whole'), at('stopped')];
    const long = (to: string): string[] => [...vqa(), '--examples', '60', '--epochs', '12', '--out', to];
    await succeed(long(whole));
    const { child, done } = start(long(stopped));
    await until(async () => child.exitCode !== null
      || (await readFile(join(stopped, 'metrics.jsonl'), 'utf8').catch(() => '')).includes('"step":6'));
    child.kill('SIGINT');
    expectRefusal(await done, 1, [`stopped; go on with \`scion resume ${stopped}\``]);
    expect(await readFile(join(stopped, 'run.json'), 'utf8')).toMatch(/"state": "running"/);
    await refused(folder, 1, ['predict', stopped, image, '--question', 'what?'], [`the run is not finished; go on with \`scion resume ${stopped}\``]);
    expect(await succeed(['resume', stopped])).toMatch(/right answers\ntest: accuracy/);
    const [a, b] = [await readRun(whole), await readRun(stopped)];
    expect(b.metrics).toBe(a.metrics);
    expect(b.adapter.equals(a.adapter)).toBe(true);
  }, 120_000);

  test('words in any script, and questions that are too long', async () => {
    expect(await succeed(['predict', answers, image, '--question', 'この犬は何色ですか？ какого цвета 🐶', '--top', '1'])).toMatch(/0\.\d{4}/);
    const long = await scion(['predict', answers, image, '--question', 'what color is the dog '.repeat(60)]);
    expect([long.code, long.stderr]).toEqual([0, expect.stringMatching(/1 of the questions are longer than the model has places for and are cut/)]);
    const cut = await scion([...vqa(), '--max-length', '4', '--out', out]);
    await rm(out, { recursive: true });
    expect([cut.code, cut.stderr]).toEqual([0, expect.stringMatching(/warning: \d+ texts are longer than 4 tokens and are cut/)]);
  });
});

test('a run of captions: caption and eval', async () => {
  const found = await json<{ captions: { path: string; caption: string }[] }>(['caption', captions, join(world, 'test2015'), '--max-new-tokens', '5']);
  expect(found.captions.length).toBe((await readdir(join(world, 'test2015'))).length);
  for (const { caption: text } of found.captions) expect(text.split(' ').length).toBeLessThanOrEqual(5);
  expect(await succeed(['eval', captions, '--max-new-tokens', '5'])).toMatch(/bleu4 [\d.]+, .*, 6 test examples/);
});

describe('flags and runs of the other kind', () => {
  const refusals: [name: string, code: 1 | 2, args: () => string[], mentions: (string | RegExp)[]][] = [
    ['flags of classes', 2, () => [...vqa(), '--shots', '4', '--features', 'f', '--templates', 'photo'], [
      '--shots: is for classes of pictures, not for this task; use examples', '--features: is for classes of pictures', '--templates: is for']],
    ['flags of words', 2, () => ['train', '--features', pictograms, '--text-model', 'picto-roberta', '--max-new-tokens', '3'], [
      '--text-model: is for the tasks vqa and caption; add the task, or leave it out', '--max-new-tokens: is for the tasks']],
    ['an unknown task', 2, () => ['train', '--task', 'reading', '--data', world], [/--task: "reading": expected one of "vqa"\|"caption"/]],
    ['a method of features', 2, () => [...vqa(), '--method', 'tip-adapter'], [
      /--method: tip-adapter works on features of classes; choose one .*: lora, (?!.*coop)/]],
    ['a method of classes\' words', 2, () => [...vqa(), '--method', 'coop'], ['--method: coop learns the prompts of classes']],
    ['an encoder for captions', 2, () => [...caption(), '--text-model', 'picto-roberta'], [
      '--text-model: picto-roberta is an encoder, which reads texts and writes none; take a decoder (GPT-2) or an encoder-decoder']],
    ['a model of pictures for texts', 1, () => [...vqa(), '--text-model', 'picto'], [/"picto_clip" is not supported; text models are/]],
  ];
  test.each(refusals)('training: %s', async (_, code, args, mentions) => {
    await refused(folder, code, [...args(), '--out', out], mentions);
  });

  test.each<[string, 1 | 2, () => string[], (string | RegExp)[]]>([
    ['a question to classes', 2, () => ['predict', classes, '--features', pictograms, '--question', 'what?'], [
      `--question: is for runs of the task vqa; ${classes} tells classes apart, leave it out`]],
    ['a question to captions', 2, () => ['predict', captions, image, '--question', 'what?'], [`${captions}: is a run that describes pictures; use scion caption`]],
    ['captions of questions', 2, () => ['caption', answers, image], [`${answers}: is a run of the task vqa; it answers questions: use scion predict with --question`]],
    ['captions of classes', 1, () => ['caption', classes, image], ['is a run of classes, which answers no questions and writes no captions; use scion predict']],
    ['no question', 2, () => ['predict', answers, image], ['--question: missing: the run answers questions, ask one']],
    ['an empty question', 2, () => ['predict', answers, image, '--question', ' '], ['--question: is empty; ask something']],
    ['no picture', 2, () => ['predict', answers, '--question', 'what?'], ['pictures: missing: name a picture to ask about']],
    ['a picture that is not there', 1, () => ['predict', answers, at('no.jpg'), '--question', 'what?'], [/no\.jpg: cannot read it: there is no such file/]],
    ['writing options where answers are chosen', 2, () => ['predict', answers, image, '--question', 'what?', '--num-beams', '2'], [
      /--num-beams: is for texts that are written; .* chooses among \d+ answers, leave it out/]],
    ['more words than there are places', 2, () => ['caption', captions, image, '--max-new-tokens', '90'], [/--max-new-tokens: .*40 positions/]],
    ['features and rejection', 2, () => ['eval', answers, '--features', 'f', '--reject'], ['--features: is for runs that tell classes apart', '--reject: is for']],
  ])('a finished run: %s', async (_, code, args, mentions) => {
    await refused(folder, code, args(), mentions);
  });

  test.each<[string, () => string[]]>([
    ['serve', () => ['serve', answers]],
    ['graph', () => ['graph', answers]],
    ['merge', () => ['merge', answers, out]],
    ['classes add', () => ['classes', 'add', answers, image, '--name', 'cat', '--out', out]],
    ['classes remove', () => ['classes', 'remove', answers, 'cat', '--out', out]],
  ])('%s says that the run is of questions', async (_, args) => {
    await refused(folder, 1, args(), [/run\.json: is a run of the task "vqa", not of classes; ask it with scion eval/]);
  });
});

/** The world with one file changed; read as text. */
async function changed(name: string, file: string, change: (text: string) => string | undefined): Promise<string> {
  const copy = at(name);
  await cp(world, copy, { recursive: true });
  const text = change(await readFile(join(copy, file), 'utf8'));
  if (text === undefined) await rm(join(copy, file));
  else await writeFile(join(copy, file), text);
  return copy;
}
const questions = 'v2_OpenEnded_mscoco_train2014_questions.json';
const given = 'v2_mscoco_train2014_annotations.json';
const picture1 = 'train2014/COCO_train2014_000000000001.jpg';

/** What users see of it, without the time that a process takes: `error: ` before each issue. */
async function fails(running: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await running.then(() => undefined, (cause: unknown) => cause);
  expect(error).toBeInstanceOf(ScionError);
  expect((error as ScionError).kind).toBe('input');
  expect((error as ScionError).message).toMatch(message);
  expect(existsSync(out)).toBe(false);
}
const learn = (task: 'vqa' | 'caption', data: string): Promise<unknown> =>
  trainLanguage({ task, data, out, threads: 1, training: { epochs: 1 }, ...(task === 'caption' && { text_model: gpt }) });

describe('data', () => {
  test('annotations that are missing', async () => {
    const data = await changed('no-annotations', given, () => undefined);
    await refused(folder, 1, [...vqa(data), '--out', out], [`${questions}: its annotations are missing; put ${given} into ${data}`]);
  });

  test('a picture that has no file', async () => {
    const data = await changed('no-picture', picture1, () => undefined);
    const says = /the picture COCO_train2014_000000000001\.jpg of image "1" is not in .* or below it; put it there/;
    await fails(learn('vqa', data), says);
    await fails(learn('caption', data), says);
  });

  test('a picture that cannot be read: an error, or left out', async () => {
    const data = await changed('bad-picture', picture1, () => 'no picture');
    await fails(learn('vqa', data), /COCO_train2014_000000000001\.jpg/);
    const { code, stderr } = await scion([...vqa(data), '--examples', 'all', '--skip-bad', '--out', at('skipped')]);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/warning: 1 pictures cannot be read and are left out, with what is asked or said about them/);
  });

  test('empty answers', async () => {
    const empty = (text: string): string => {
      const all = JSON.parse(text) as { annotations: { answers: { answer: string }[] }[] };
      for (const answer of all.annotations[0]!.answers) answer.answer = '';
      return JSON.stringify(all);
    };
    await fails(learn('vqa', await changed('empty', given, empty)), /annotations: 0.*empty/);
  });

  test('a caption of ten thousand words', async () => {
    const endless = (text: string): string => {
      const all = JSON.parse(text) as { images: { sentences: { raw: string }[] }[] };
      all.images[0]!.sentences[0]!.raw = 'dog '.repeat(10_000);
      return JSON.stringify(all);
    };
    await fails(learn('caption', await changed('endless', 'dataset_coco.json', endless)),
      /dataset_coco\.json: images: 0: a caption has 10000 words, expected at most 1000; shorten it/);
  });

  test('questions and answers in other scripts are learned like any others', async () => {
    const data = await changed('scripts', given, (text) => text.replaceAll('"yes"', '"はい"').replaceAll('"no"', '"нет"'));
    await succeed([...vqa(data), '--out', at('scripts-run')]);
    expect((await readRun(at('scripts-run'))).info.answers).toEqual(expect.arrayContaining(['はい', 'нет']));
  });
});

describe('a run folder that is not whole', () => {
  async function damaged(name: string, change: (info: Record<string, unknown>) => void): Promise<string> {
    const copy = at(name);
    await cp(answers, copy, { recursive: true });
    const { info } = await readRun(answers);
    change(info);
    await writeFile(join(copy, 'run.json'), JSON.stringify(info));
    return copy;
  }

  test.each<[string, (info: Record<string, unknown>) => void, RegExp]>([
    ['answers that are not those of the classifier', (info) => { (info.answers as string[]).pop(); },
      /run\.json: answers: has (\d+), and the classifier in adapter\.safetensors chooses among \d+; take both files of the same run/],
    ['no answers', (info) => { delete info.answers; }, /run\.json: answers: has none, and the classifier in adapter\.safetensors chooses/],
    ['another text model', (info) => { (info.models as { text: { digest: string } }).text.digest = 'f'.repeat(64); },
      /picto-roberta: is not the model that .* was trained with \(picto-roberta\): its content differs; give that one/],
    ['a rank that is another', (info) => { (info.result as { config: { r: number } }).config.r = 3; }, /lora_A.*expected \[3, /],
    ['a newer format', (info) => { info.format = 99; }, /has format 99, this Scion reads up to 1; update/],
  ])('%s', async (name, change, message) => {
    const path = await damaged(name, change);
    await fails((async () => {
      const run = await loadLanguageRun(path);
      await run.evaluate().finally(() => run.close());
    })(), message);
  });
});
