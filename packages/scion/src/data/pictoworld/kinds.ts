/** The things of PictoWorld, their names, and the colours that drawings of one colour are given. */

export interface Kind {
  readonly name: string;
  readonly plural: string;
  /** The class of Picto-11 whose drawings show it: `task/class`. */
  readonly source: string;
  /** Its place in the table, by which combinations are held out. */
  readonly index: number;
}

/** By task of Picto-11: the class, and the name here where it is another. */
const table: Readonly<Record<string, readonly string[]>> = {
  animals: [
    'bird', 'butterfly', 'cat', 'chicken', 'cow', 'crab', 'dog', 'duck', 'elephant', 'fish', 'horse', 'octopus', 'owl',
    'pig', 'rabbit', 'snail', 'snake', 'spider', 'turtle', 'whale',
  ],
  food: [
    'banana', 'carrot', 'cookie', 'cupcake', 'doughnut', 'egg', 'ice cream', 'lemon', 'pear', 'pizza', 'strawberry',
    'wine glass',
  ],
  'transport-and-places': [
    'airplane', 'automobile=car', 'bicycle', 'bus', 'castle', 'church', 'helicopter', 'house', 'mountain', 'rocket',
    'sailboat', 'tent', 'tractor', 'train',
  ],
  'devices-and-tools': ['clock', 'hammer', 'key', 'laptop', 'lightbulb=light bulb', 'lock', 'robot', 'umbrella'],
  communication: ['bell', 'printer'],
  media: ['camera', 'guitar', 'pencil'],
  commerce: ['trophy', 'truck'],
};
const irregular: Readonly<Record<string, string>> = {
  butterfly: 'butterflies', strawberry: 'strawberries', trophy: 'trophies', fish: 'fish', octopus: 'octopuses', bus: 'buses',
  church: 'churches', 'wine glass': 'wine glasses',
};

export const kinds: readonly Kind[] = Object.entries(table)
  .flatMap(([task, classes]) => classes.map((entry) => ({ task, words: entry.split('=') })))
  .map(({ task, words: [className, name = className!] }, index) => (
    { name, plural: irregular[name] ?? `${name}s`, source: `${task}/${className}`, index }));

/** `a dog`, `an orange umbrella`. */
export const withArticle = (words: string): string => `${/^[aeiou]/.test(words) ? 'an' : 'a'} ${words}`;

export const counts = ['no', 'one', 'two', 'three', 'four'] as const;

/**
 * A seventh of all pairs of kinds: never in one scene of training or validation, and in every test scene with two or
 * more kinds. The pairs do not depend on the seed, so that a model of one world can be tested in another.
 */
export const isHeldOutPair = (a: Kind, b: Kind): boolean => a !== b && (a.index + b.index) % 7 === 0;

/** Far from each other, and from the light backgrounds. */
export const colors = {
  red: [214, 26, 32], orange: [245, 130, 10], yellow: [236, 200, 0], green: [30, 150, 60], blue: [25, 90, 215],
  purple: [125, 40, 175], pink: [245, 110, 180], black: [20, 20, 20],
} as const satisfies Readonly<Record<string, readonly [number, number, number]>>;
export type Color = keyof typeof colors;
export const colorNames = Object.keys(colors) as Color[];
