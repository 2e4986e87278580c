/** PictoWorld: scenes of pictograms with questions and captions, written in the official formats of VQAv2 and COCO. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWholeFolder } from '../../formats/folder.js';
import { stopIf, usageError } from '../../util/errors.js';
import { Random } from '../../util/random.js';
import { licencesOf } from '../suites.js';
import { describeScene } from './captions.js';
import { SceneDrawer } from './draw.js';
import { readDrawings } from './drawings.js';
import { type KarpathyImage, type Page, captionFile, folders, karpathyImage, questionFiles, sceneLine } from './files.js';
import { askQuestions } from './questions.js';
import { type WorldSplit, sampleScenes, splits } from './scene.js';

export interface WorldOptions {
  /** Scenes in all: eight tenths for training, a tenth each for validation and test. Default 10 000. */
  readonly scenes?: number;
  /** Default 1. */
  readonly seed?: number;
  /** Most questions about a scene. Default 4. */
  readonly questionsPerScene?: number;
  /** Names of kinds, 8 or more; all where not given. */
  readonly kinds?: readonly string[];
  /** Icon sets whose drawings training and validation show; all seen ones where not given. */
  readonly styles?: readonly string[];
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

export interface WorldCounts {
  readonly scenes: number;
  readonly questions: number;
  readonly captions: number;
}

const atOnce = 32;

/**
 * Writes a world into a new folder, which appears whole. The same options give the same bytes on the same machine.
 * @throws ScionError: `usage` for options out of range and a folder with content, `io` where it cannot be written
 */
export async function generateWorld(folder: string, options: WorldOptions = {}): Promise<Record<WorldSplit, WorldCounts>> {
  const { scenes = 10_000, seed = 1, questionsPerScene = 4 } = options;
  checkInteger('scenes', scenes, 20, 200_000);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('questionsPerScene', questionsPerScene, 1, 8);
  const drawings = await readDrawings(options.kinds, options.styles);
  const kinds = drawings.map((d) => d.kind);
  const tenth = Math.floor(scenes / 10);
  const counts = { train: scenes - 2 * tenth, val: tenth, test: tenth };
  const random = Random.seeded(seed).child('pictoworld');
  const result: Partial<Record<WorldSplit, WorldCounts>> = {};
  const occupied = (path: string): Error => usageError(path, 'is there already and has content; choose a new folder');
  await makeWholeFolder(folder, { what: 'the world', occupied }, async (draft) => {
    const drawer = new SceneDrawer();
    const karpathy: KarpathyImage[] = [];
    let firstId = 1;
    await mkdir(join(draft, 'annotations'));
    for (const split of splits) {
      const own = random.child(split);
      const made = sampleScenes(own.child('scenes'), split, counts[split], drawings);
      const questions = askQuestions(own.child('questions'), made, questionsPerScene, kinds);
      const pages: Page[] = made.map((scene, i) => ({
        id: firstId + i, split, scene, questions: questions[i]!, captions: describeScene(own.child('captions', i), scene),
      }));
      const before = firstId - 1;
      await mkdir(join(draft, folders[split]));
      const boxes = await drawAll(drawer, draft, pages, options.signal, (done) => options.onProgress?.(before + done, scenes));
      for (const [name, content] of Object.entries(questionFiles(split, pages))) await writeFile(join(draft, name), JSON.stringify(content));
      await writeFile(join(draft, 'annotations', `captions_${folders[split]}.json`), JSON.stringify(captionFile(pages)));
      await writeFile(join(draft, `scenes_${folders[split]}.jsonl`), pages.map((p, i) => `${JSON.stringify(sceneLine(p, boxes[i]!))}\n`).join(''));
      karpathy.push(...pages.map(karpathyImage));
      const asked = questions.reduce((sum, q) => sum + q.length, 0);
      result[split] = { scenes: pages.length, questions: asked, captions: 5 * pages.length };
      firstId += pages.length;
    }
    await writeFile(join(draft, 'dataset_coco.json'), JSON.stringify({ dataset: 'coco', images: karpathy }));
    await writeFile(join(draft, 'LICENSES.md'), await licencesOf('picto-11'));
    const settings = { scenes, seed, questionsPerScene, kinds: kinds.map((k) => k.name), ...(options.styles && { styles: options.styles }) };
    await writeFile(join(draft, 'world.json'), JSON.stringify(settings, undefined, 2));
  });
  return result as Record<WorldSplit, WorldCounts>;
}

type Boxes = readonly (readonly number[])[];

async function drawAll(
  drawer: SceneDrawer, draft: string, pages: readonly Page[], signal: AbortSignal | undefined, onDone: (done: number) => void,
): Promise<Boxes[]> {
  const boxes: Boxes[] = [];
  for (let at = 0; at < pages.length; at += atOnce) {
    stopIf(signal);
    boxes.push(...await Promise.all(pages.slice(at, at + atOnce).map(async (page) => {
      const drawn = await drawer.draw(page.scene);
      await writeFile(join(draft, pathOf(page)), drawn.jpeg);
      return drawn.boxes;
    })));
    onDone(boxes.length);
  }
  return boxes;
}

function pathOf(page: Page): string {
  const { filepath, filename } = karpathyImage(page);
  return `${filepath}/${filename}`;
}

function checkInteger(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw usageError(name, `${value}: expected a whole number from ${least} to ${most}`);
}

