/** The official files: VQAv2's questions and annotations, COCO's captions, Karpathy's dataset_coco.json. */
import type { WorldQuestion } from './questions.js';
import { type Scene, type WorldSplit, pictureSide } from './scene.js';

/** A scene with all that is said about it. */
export interface Page {
  /** Of the image, over all splits. */
  readonly id: number;
  readonly split: WorldSplit;
  readonly scene: Scene;
  readonly questions: readonly WorldQuestion[];
  readonly captions: readonly string[];
}

export const folders: Readonly<Record<WorldSplit, string>> = { train: 'train2014', val: 'val2014', test: 'test2015' };

const fileName = ({ id, split }: Page): string => `COCO_${folders[split]}_${String(id).padStart(12, '0')}.jpg`;
const info = { description: 'PictoWorld', version: '1' };

/** As in VQAv2, the id of a question is the image's with three more digits, and there are ten answers, all equal here. */
export function questionFiles(split: WorldSplit, pages: readonly Page[]): Record<string, unknown> {
  const all = pages.flatMap((p) => p.questions.map((q, i) => ({ ...q, image_id: p.id, question_id: 1000 * p.id + i })));
  const data_subtype = folders[split];
  return {
    [`v2_OpenEnded_mscoco_${data_subtype}_questions.json`]: {
      info, task_type: 'Open-Ended', data_type: 'mscoco', data_subtype,
      questions: all.map(({ image_id, question, question_id }) => ({ image_id, question, question_id })),
    },
    [`v2_mscoco_${data_subtype}_annotations.json`]: {
      info, data_type: 'mscoco', data_subtype,
      annotations: all.map(({ image_id, question_id, type, answer, answerType }) => ({
        question_type: type, multiple_choice_answer: answer,
        answers: Array.from({ length: 10 }, (_, i) => ({ answer, answer_confidence: 'yes', answer_id: i + 1 })),
        image_id, answer_type: answerType, question_id,
      })),
    },
  };
}

const sentenceId = (page: Page, i: number): number => 5 * (page.id - 1) + i + 1;

export function captionFile(pages: readonly Page[]): unknown {
  return {
    info, licenses: [],
    images: pages.map((p) => ({ id: p.id, file_name: fileName(p), width: pictureSide, height: pictureSide })),
    annotations: pages.flatMap((p) => p.captions.map((caption, i) => ({ image_id: p.id, id: sentenceId(p, i), caption }))),
  };
}

export interface KarpathyImage {
  readonly filepath: string;
  readonly filename: string;
  readonly [more: string]: unknown;
}

export function karpathyImage(page: Page): KarpathyImage {
  const imgid = page.id - 1;
  return {
    filepath: folders[page.split], filename: fileName(page), imgid, cocoid: page.id, split: page.split,
    sentids: page.captions.map((_, i) => sentenceId(page, i)),
    sentences: page.captions.map((raw, i) => ({
      tokens: raw.replace(/[^a-z0-9 ]/g, '').split(' '), raw, imgid, sentid: sentenceId(page, i),
    })),
  };
}

/** What is in a picture; boxes are left, top, width, height in pixels, as in COCO. */
export function sceneLine(page: Page, boxes: readonly (readonly number[])[]): unknown {
  return {
    image_id: page.id, file_name: fileName(page), background: page.scene.background.texture,
    objects: page.scene.objects.map(({ kind, drawing, color, cell, size }, i) => (
      { kind: kind.name, style: drawing.style, drawing: drawing.path, color, cell, size, box: boxes[i] })),
  };
}
