/** Five different descriptions of a scene, from a small grammar. */
import type { Random } from '../../util/random.js';
import { type Kind, counts, withArticle } from './kinds.js';
import { type Scene, type SceneObject, pick } from './scene.js';

const references = 5;

/** Five different captions of a scene, in lower case without a full stop. */
export function describeScene(random: Random, scene: Scene): string[] {
  const captions = new Set<string>();
  const ways = random.shuffle([listed, there, placed, related, counted, inPicture]);
  for (let turn = 0; captions.size < references; turn++) captions.add(ways[turn % ways.length]!(random, scene));
  return [...captions];
}

type Way = (random: Random, scene: Scene) => string;

const colored = (random: Random, { kind, color }: SceneObject): string =>
  (color !== null && random.uniform() < 0.7 ? `${color} ${kind.name}` : kind.name);
const one = (random: Random, o: SceneObject): string => withArticle(colored(random, o));
const joined = (parts: readonly string[]): string =>
  (parts.length === 1 ? parts[0]! : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)!}`);
const onBackground = (random: Random, { background }: Scene): string =>
  (random.uniform() < 0.5 ? ` on ${withArticle(`${background.texture} background`)}` : '');

/** What there is, several of a kind together: `two cats and a red car`. */
function things(random: Random, { objects }: Scene): string {
  const groups = new Map<Kind, SceneObject[]>();
  for (const o of random.shuffle(objects)) groups.set(o.kind, [...(groups.get(o.kind) ?? []), o]);
  return joined([...groups].map(([kind, same]) =>
    (same.length === 1 ? one(random, same[0]!) : `${counts[same.length]!} ${kind.plural}`)));
}

const listed: Way = (random, scene) => things(random, scene) + onBackground(random, scene);
const there: Way = (random, scene) => {
  const text = things(random, scene);
  return `there ${/^(two|three|four) /.test(text) ? 'are' : 'is'} ${text}${onBackground(random, scene)}`;
};
const placed: Way = (random, { objects }) => {
  const shown = random.shuffle(objects).slice(0, 2);
  return joined(shown.map((o) => `${one(random, o)} ${pick(random, [`in the ${o.cell} corner`, `at the ${o.cell}`])}`));
};
const related: Way = (random, scene) => {
  const [a, b] = random.shuffle(scene.objects);
  if (!b) return `${pick(random, ['nothing but', 'only', 'just'])} ${one(random, a!)}`;
  const [ay, ax] = a!.cell.split(' ');
  const [by, bx] = b.cell.split(' ');
  const where = ay === by ? (ax === 'left' ? 'to the left of' : 'to the right of')
    : ax === bx ? (ay === 'top' ? 'above' : 'below') : 'diagonally across from';
  return `${one(random, a!)} ${where} ${a!.kind === b.kind ? `another ${b.kind.name}` : one(random, b)}`;
};
const counted: Way = (random, scene) => {
  const n = scene.objects.length;
  const text = things(random, scene);
  return `${counts[n]!} ${pick(random, ['pictogram', 'thing', 'drawing'])}${n === 1 ? '' : 's'}: ${text}`;
};
const inPicture: Way = (random, scene) => `${pick(random, ['a picture of', 'a drawing of', 'a scene with'])} ${things(random, scene)}`;
