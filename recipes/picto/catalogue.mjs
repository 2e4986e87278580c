/** Every drawing with what it shows; which concepts are held out; what pretraining sees; what Picto-11 is made of. */
import { createHash } from 'node:crypto';
import { conceptName, emojiConcepts } from './emoji.mjs';
import { iconSets, readIcons } from './icon-sets.mjs';
import { coarseTasks, emojiTasks, interfaceTasks } from './tasks.mjs';

/** A number in [0, 1) that depends on the text alone. */
export const chance = (text) => createHash('sha256').update(text).digest().readUInt32BE(0) / 2 ** 32;

/** One fifth of the concepts, by the hash of the name. */
const drawnHeldOut = (concept) => chance(`picto held out: ${concept}`) < 0.2;

/** The classes of the interface tasks: `{ task, name, concepts }`. */
export const interfaceClasses = Object.entries(interfaceTasks).flatMap(([task, classes]) => classes.map((line) => {
  const concepts = line.split(', ').map(conceptName);
  return { task, name: concepts[0], concepts };
}));

/** A held-out class holds out all its names. */
const heldOutByClass = new Set(interfaceClasses.filter(({ name }) => drawnHeldOut(name)).flatMap((c) => c.concepts));
const seenByClass = new Set(interfaceClasses.filter(({ name }) => !drawnHeldOut(name)).flatMap((c) => c.concepts));

export const isHeldOutConcept = (concept) =>
  heldOutByClass.has(concept) || (!seenByClass.has(concept) && drawnHeldOut(concept));

/** Bases that are brands wherever they stand: in collections of logos, twice at least. */
function brands() {
  const lists = ['simple-icons', 'fa-brands', 'fa6-brands', 'bxl', 'cib', 'devicon', 'logos'].map((prefix) =>
    new Set(readIcons(prefix).map(({ base }) => conceptName(base))));
  const counts = new Map();
  for (const list of lists) for (const name of list) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Set([...counts].filter(([, n]) => n > 1).map(([name]) => name));
}

/** @returns {{ id, set, family, emoji, heldOut, concept, heldOutConcept, subgroup?, svg }[]} every drawing that is used */
export function drawings() {
  const emoji = emojiConcepts();
  const logos = brands();
  const all = iconSets().flatMap((set) => readIcons(set.prefix).flatMap((icon) => {
    const full = conceptName(icon.name);
    const base = conceptName(icon.base);
    const concept = emoji.has(full) ? full : base;
    // sets of emoji are read by Unicode's names; their variants of skin and hair are not
    if (set.emoji ? !emoji.has(concept) : logos.has(base) || /\b(brand|logo|logos)\b/.test(full)) return [];
    if (!/[a-z]{2}/.test(concept)) return [];
    return [{
      id: `${set.prefix}:${icon.name}`, set: set.prefix, family: set.family, emoji: set.emoji, heldOut: set.heldOut,
      concept, heldOutConcept: isHeldOutConcept(concept), subgroup: emoji.get(concept)?.subgroup, svg: icon.svg,
    }];
  }));
  return all.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** At most `count` of the items with the same key, chosen by hash. */
function atMost(items, count, key) {
  const groups = Map.groupBy ? Map.groupBy(items, key) : groupBy(items, key);
  return [...groups.values()].flatMap((group) =>
    (group.length <= count ? group : [...group].sort((a, b) => chance(a.id) - chance(b.id)).slice(0, count)));
}

export function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    const k = key(item);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(item);
  }
  return groups;
}

/**
 * What pretraining sees: seen styles of seen concepts; of the interface sets, concepts that three families draw at
 * least, two variants of a set at most, and 64 drawings of a concept.
 */
export function pretrainingDrawings(all) {
  const seen = all.filter((d) => !d.heldOut && !d.heldOutConcept);
  const icons = seen.filter((d) => !d.emoji);
  const families = new Map([...groupBy(icons, (d) => d.concept)].map(([c, ds]) => [c, new Set(ds.map((d) => d.family)).size]));
  const emojiNames = new Set(seen.filter((d) => d.emoji).map((d) => d.concept));
  const common = icons.filter((d) => families.get(d.concept) >= 3 || emojiNames.has(d.concept));
  const perSet = atMost(common, 2, (d) => `${d.set} ${d.concept}`);
  return [...seen.filter((d) => d.emoji), ...atMost(perSet, 64, (d) => d.concept)];
}

const mostTrain = 24;
const mostTest = 24;

/**
 * The tasks: `{ name, classes: [{ name, train: drawing[], test: drawing[] }] }`. Test drawings come from held-out
 * families alone, training drawings from the others; of a set at most two variants of a concept.
 */
export function picto11(all) {
  const thin = atMost(all, 2, (d) => `${d.set} ${d.concept}`);
  const byConcept = groupBy(thin, (d) => d.concept);
  const task = (name, classes) => ({ name, classes });
  const split = (name, ds, counts = { train: mostTrain, test: mostTest }) => ({
    name,
    train: spread(ds.filter((d) => !d.heldOut), counts.train),
    test: spread(ds.filter((d) => d.heldOut), counts.test),
  });
  const fine = Object.entries(emojiTasks).map(([name, pattern]) => {
    const concepts = [...byConcept].filter(([, ds]) => ds.some((d) => d.emoji && pattern.test(d.subgroup)));
    const classes = concepts.map(([concept, ds]) => split(concept, ds))
      .filter(({ train, test }) => train.length >= 6 && test.length >= 2)
      .sort((a, b) => b.test.length - a.test.length || chance(a.name) - chance(b.name))
      .slice(0, 60);
    return task(name, classes.sort((a, b) => (a.name < b.name ? -1 : 1)));
  });
  const coarse = Object.entries(coarseTasks).map(([name, classes]) => task(name, Object.entries(classes).map(
    ([className, subgroups]) => {
      const ds = thin.filter((d) => d.emoji && subgroups.includes(d.subgroup));
      return split(className, ds.filter((d) => d.heldOut || !d.heldOutConcept), { train: 40, test: 40 });
    })));
  const icons = Object.keys(interfaceTasks).map((name) => task(name, interfaceClasses.filter((c) => c.task === name)
    .map((c) => split(c.name, c.concepts.flatMap((concept) => byConcept.get(concept) ?? [])))
    .filter(({ train, test }) => train.length >= 16 && test.length >= 8)));
  return [...fine, ...coarse, ...icons];
}

/** `count` drawings from as many families as possible: one of each in turn. */
function spread(ds, count) {
  const queues = [...groupBy(ds, (d) => d.family).values()].map((g) => [...g].sort((a, b) => chance(a.id) - chance(b.id)));
  queues.sort((a, b) => chance(a[0].family + a[0].concept) - chance(b[0].family + b[0].concept));
  const out = [];
  for (let round = 0; out.length < count && queues.some((q) => q.length > round); round++) {
    for (const q of queues) if (q.length > round && out.length < count) out.push(q[round]);
  }
  return out;
}
