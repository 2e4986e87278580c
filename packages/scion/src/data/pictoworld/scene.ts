/** Scenes of one to four pictograms in the cells of a 2 × 2 grid. */
import type { Random } from '../../util/random.js';
import { type Background, sampleBackground } from './background.js';
import type { Drawing, KindDrawings } from './drawings.js';
import { type Color, type Kind, colorNames, isHeldOutPair } from './kinds.js';

/** Side of a picture and of a cell, in pixels. */
export const pictureSide = 128;
export const cellSide = 64;
export const cells = ['top left', 'top right', 'bottom left', 'bottom right'] as const;
export type Cell = (typeof cells)[number];
/** Sides of the square that a drawing fills, in pixels: 24 to 30 where PictoCLIP sees the scene at 64 × 64. */
export const sizes = { small: 48, medium: 54, large: 60 } as const;
export type Size = keyof typeof sizes;
const sizeNames = Object.keys(sizes) as Size[];

export interface SceneObject {
  readonly kind: Kind;
  readonly drawing: Drawing;
  /** The colour that a drawing of one colour was given; null for one with colours of its own. */
  readonly color: Color | null;
  readonly cell: Cell;
  readonly size: Size;
  /** Upper left corner of the drawing's square in the picture, in pixels. */
  readonly left: number;
  readonly top: number;
}

export interface Scene {
  readonly objects: readonly SceneObject[];
  readonly background: Background;
  /** The kind that the scene was made to count, with its number of objects, 0 to 4. */
  readonly counted?: { readonly kind: Kind; readonly count: number };
}

export const splits = ['train', 'val', 'test'] as const;
export type WorldSplit = (typeof splits)[number];

export const pick = <T>(random: Random, items: readonly T[]): T => items[random.integer(items.length)]!;

/** Numbers of different things in a scene that counts nothing: few have one. */
const numbers = [1, 2, 2, 3, 3, 3, 4, 4, 4];

/**
 * The scenes of a split. Every other one is made for a question how many there are: for one kind after another, with
 * none, one, … four of it and any others beside. The others hold different kinds. Test scenes use held-out styles, and
 * a held-out pair of kinds wherever there are two kinds or more; no other scene holds such a pair.
 */
export function sampleScenes(random: Random, split: WorldSplit, count: number, all: readonly KindDrawings[]): Scene[] {
  const order = random.child('order').shuffle(all);
  return Array.from({ length: count }, (_, i) => {
    const own = random.child(i);
    const turn = Math.floor(i / 2);
    const counted = i % 2 === 1 ? { kind: order[Math.floor(turn / 5) % order.length]!.kind, count: turn % 5 } : undefined;
    return sampleScene(own, split === 'test', all, counted);
  });
}

function sampleScene(random: Random, test: boolean, all: readonly KindDrawings[], counted: Scene['counted']): Scene {
  const repeated = counted?.count ?? 0;
  const others = counted === undefined ? pick(random, numbers)
    : repeated === 0 ? 1 + random.integer(4) : random.integer(5 - repeated);
  const first = counted !== undefined && repeated > 0 ? [counted.kind] : [];
  const chosen = sampleKinds(random, test, all, first, first.length + others, counted?.kind);
  const shown = chosen.flatMap((k) => new Array<KindDrawings>(k.kind === counted?.kind ? repeated : 1).fill(k));
  const places = random.shuffle(cells);
  const objects = shown.map(({ kind, seen, heldOut }, i) => {
    const drawing = sampleDrawing(random, test ? heldOut : seen);
    const cell = places[i]!;
    const size = pick(random, sizeNames);
    const free = cellSide - sizes[size] + 1;
    return {
      kind, drawing, color: drawing.plain ? pick(random, colorNames) : null, cell, size,
      left: (cell.endsWith('right') ? cellSide : 0) + random.integer(free),
      top: (cell.startsWith('bottom') ? cellSide : 0) + random.integer(free),
    };
  });
  objects.sort((a, b) => cells.indexOf(a.cell) - cells.indexOf(b.cell));
  return { objects, background: sampleBackground(random), ...(counted && { counted }) };
}

/** `count` kinds, those of `first` among them, and no other that is `counted`. */
function sampleKinds(
  random: Random, test: boolean, all: readonly KindDrawings[], first: readonly Kind[], count: number, counted: Kind | undefined,
): KindDrawings[] {
  const chosen = all.filter((k) => first.includes(k.kind));
  while (chosen.length < count) {
    const free = all.filter((k) => k.kind !== counted && !chosen.includes(k));
    const fitting = free.filter((k) => chosen.some((c) => isHeldOutPair(c.kind, k.kind)) === test);
    // a test scene needs one such pair; where its kinds have no partner, any further kind may bring one
    const settled = test && chosen.some((a) => chosen.some((b) => isHeldOutPair(a.kind, b.kind)));
    const open = chosen.length === 0 || settled ? free : fitting;
    if (open.length === 0) break;
    chosen.push(pick(random, open));
  }
  return chosen;
}

/** Drawings of one colour and of many are equally likely where a kind has both. */
function sampleDrawing(random: Random, drawings: readonly Drawing[]): Drawing {
  const wanted = random.uniform() < 0.5;
  const fitting = drawings.filter((d) => d.plain === wanted);
  return pick(random, fitting.length > 0 ? fitting : drawings);
}
