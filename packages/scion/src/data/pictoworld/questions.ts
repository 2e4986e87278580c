/** Questions about scenes whose answers cannot be guessed from the question. */
import type { Random } from '../../util/random.js';
import { type Color, type Kind, colorNames, withArticle } from './kinds.js';
import { type Scene, cells, pick } from './scene.js';

export interface WorldQuestion {
  readonly question: string;
  readonly answer: string;
  /** As VQAv2 says it: the question's first words. */
  readonly type: string;
  readonly answerType: 'yes/no' | 'number' | 'other';
}

/** Ways to ask, `#` for what is asked about, by the type that VQAv2 would give them. */
type Ways = readonly (readonly [type: string, text: string])[];
const howMany: Ways = [['how many', 'how many # are there?'], ['how many', 'how many # can you see?']];
const isThere: Ways = [['is there a', 'is there #?'], ['is there a', 'is there # in the picture?']];
const open = {
  color: [['what color is the', 'what color is the #?'], ['what color', 'what color does the # have?']],
  corner: [['what is in the', 'what is in the # corner?'], ['what kind of', 'what kind of thing is in the # corner?']],
  relation: [['what is', 'what is # the @?'], ['what', 'what thing is # the @?']],
} as const satisfies Readonly<Record<string, Ways>>;
type OpenType = keyof typeof open;
const neighbours = [[0, 1, 'to the left of', 'to the right of'], [2, 3, 'to the left of', 'to the right of'],
  [0, 2, 'above', 'below'], [1, 3, 'above', 'below']] as const;

/**
 * At most `perScene` different questions about each scene, balanced for each wording:
 * - how many: scenes are made for it, kind by kind, with none to four of it equally often, and asked about that alone;
 * - is there: every wording that is answered yes is asked of another scene where the answer is no;
 * - what: an answer is given to a wording only while it is no more frequent there than all answers would be on average.
 */
export function askQuestions(random: Random, scenes: readonly Scene[], perScene: number, kinds: readonly Kind[]): WorldQuestion[][] {
  const asked: WorldQuestion[][] = scenes.map(() => []);
  const hasRoom = (i: number): boolean => asked[i]!.length < perScene;
  scenes.forEach(({ counted }, i) => {
    if (!counted) return;
    // one wording for all five numbers of a kind
    const [type, text] = howMany[Math.floor(i / 10) % 2]!;
    asked[i]!.push({ question: text.replace('#', counted.kind.plural), answer: String(counted.count), type, answerType: 'number' });
  });
  pairYesAndNo(random.child('is there'), scenes, asked, hasRoom, Math.floor(scenes.length * perScene / 8));
  const tally = new Tally();
  const used = new Map<OpenType, number>();
  for (const i of random.child('order').shuffle(scenes.map((_, at) => at))) {
    const own = random.child('open', i);
    const candidates = own.shuffle(openCandidates(own, scenes[i]!));
    while (hasRoom(i)) {
      const fitting = candidates.filter((c) => tally.admits(c.question, c.answer, c.kind === 'color' ? colorNames.length : kinds.length)
        && !asked[i]!.some((q) => q.question === c.question));
      const next = fitting.sort((a, b) => (used.get(a.kind) ?? 0) - (used.get(b.kind) ?? 0))[0];
      if (next === undefined) break;
      const { kind, ...question } = next;
      used.set(kind, (used.get(kind) ?? 0) + 1);
      tally.add(question.question, question.answer);
      asked[i]!.push(question);
      candidates.splice(candidates.indexOf(next), 1);
    }
  }
  return asked.map((list, i) => random.child('mix', i).shuffle(list));
}

/** How often each wording was given each answer. */
class Tally {
  private readonly answers = new Map<string, Map<string, number>>();

  admits(question: string, answer: string, possible: number): boolean {
    const given = this.answers.get(question);
    const total = given === undefined ? 0 : [...given.values()].reduce((a, b) => a + b, 0);
    return (given?.get(answer) ?? 0) <= Math.floor(total / possible);
  }

  add(question: string, answer: string): void {
    const given = this.answers.get(question) ?? new Map<string, number>();
    this.answers.set(question, given.set(answer, (given.get(answer) ?? 0) + 1));
  }
}

/** Whether the scene has such a thing; undefined where a drawing with colours of its own leaves it open. */
function has({ objects }: Scene, kind: Kind, color: Color | undefined): boolean | undefined {
  const same = objects.filter((o) => o.kind === kind);
  if (color === undefined) return same.length > 0;
  return same.some((o) => o.color === null) ? undefined : same.some((o) => o.color === color);
}

function pairYesAndNo(
  random: Random, scenes: readonly Scene[], asked: WorldQuestion[][], hasRoom: (i: number) => boolean, pairs: number,
): void {
  const positives = random.shuffle(scenes.flatMap(({ objects, counted }, i) => objects
    // of the kind that a scene was made to count, another question would give the number away
    .filter((o) => o.kind !== counted?.kind).flatMap((o) => [{ i, kind: o.kind, color: undefined },
      ...(o.color === null ? [] : [{ i, kind: o.kind, color: o.color }])])));
  const byKind = new Map<Kind, number[]>();
  for (const { i, kind } of positives) byKind.set(kind, [...(byKind.get(kind) ?? []), i]);
  let made = 0;
  for (const { i, kind, color } of positives) {
    if (made >= pairs) return;
    if (!hasRoom(i) || has(scenes[i]!, kind, color) !== true) continue;
    const [type, text] = pick(random, isThere);
    const question = text.replace('#', withArticle(color === undefined ? kind.name : `${color} ${kind.name}`));
    const isNew = (at: number): boolean => hasRoom(at) && !asked[at]!.some((q) => q.question === question);
    // half of the red cars that are not there are asked for where there is a car of another colour
    const near = color !== undefined && random.uniform() < 0.5 ? byKind.get(kind)! : [];
    const tried = [...random.shuffle(near).slice(0, 10), ...Array.from({ length: 40 }, () => random.integer(scenes.length))];
    const other = tried.find((at) => at !== i && isNew(at) && has(scenes[at]!, kind, color) === false
      && scenes[at]!.counted?.kind !== kind);
    if (other === undefined || !isNew(i)) continue;
    asked[i]!.push({ question, answer: 'yes', type, answerType: 'yes/no' });
    asked[other]!.push({ question, answer: 'no', type, answerType: 'yes/no' });
    made++;
  }
}

function openCandidates(random: Random, { objects }: Scene): (WorldQuestion & { kind: OpenType })[] {
  const make = (kind: OpenType, about: string, answer: string, than = ''): WorldQuestion & { kind: OpenType } => {
    const ways: Ways = open[kind];
    const [type, text] = pick(random, ways);
    return { kind, question: text.replace('#', about).replace('@', than), answer, type, answerType: 'other' };
  };
  const single = objects.filter((o) => objects.every((p) => p === o || p.kind !== o.kind));
  const at = (cell: number): Scene['objects'][number] | undefined => objects.find((o) => o.cell === cells[cell]);
  return [
    ...single.flatMap((o) => (o.color === null ? [] : [make('color', o.kind.name, o.color)])),
    ...objects.map((o) => make('corner', o.cell, o.kind.name)),
    ...neighbours.flatMap(([a, b, before, after]) => {
      const [first, second] = [at(a), at(b)];
      if (!first || !second) return [];
      return [...(single.includes(second) ? [make('relation', before, first.kind.name, second.kind.name)] : []),
        ...(single.includes(first) ? [make('relation', after, second.kind.name, first.kind.name)] : [])];
    }),
  ];
}
