/** What a step of pretraining sees: drawn pictures, changed at random, and what they and other things are called. */
import { Random, float32, int64 } from 'scion-peft';
import { groupBy } from './catalogue.mjs';
import { pictureBytes, side } from './rasters.mjs';

const templates = ['a {}', 'an icon of {}', 'a pictogram of a {}', 'a {} icon', 'the {}', '{} emoji', 'a drawing of a {}', 'a photo of a {}.'];
const directed = /\b(left|right|leftwards|rightwards|clockwise|anticlockwise)\b/;

/** `shown` are the entries of the list that are trained on, with their rows in `pictures`; `emoji` has the keywords. */
export function batchMaker({ shown, pictures, emoji, tokenizer, settings, seed }) {
  const { batch, texts: textCount, tokens, strength: [lightest, strongest, reached] } = settings;
  const concepts = [...new Set(shown.map((e) => e.concept))].sort();
  const pools = [shown.filter((r) => r.emoji), shown.filter((r) => !r.emoji)].map((pool) => {
    const groups = [...groupBy(pool, (r) => r.concept).values()];
    let total = 0; // a concept is drawn in proportion to the root of its count
    const upTo = groups.map((g) => (total += Math.sqrt(g.length)));
    return (random) => {
      const at = random.uniform(0, total);
      let [low, high] = [0, upTo.length - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (upTo[middle] > at) high = middle;
        else low = middle + 1;
      }
      return groups[low][random.integer(groups[low].length)];
    };
  });

  return (step) => {
    const random = Random.seeded(seed).child('batch', step);
    const strength = lightest + (strongest - lightest) * Math.min(1, step / reached);
    const chosen = Array.from({ length: batch }, (_, i) => pools[i % 2](random));
    const pixels = new Float32Array(batch * pictureBytes);
    chosen.forEach((entry, i) => {
      const rgb = pictures.subarray(entry.row * pictureBytes, (entry.row + 1) * pictureBytes);
      change(rgb, pixels.subarray(i * pictureBytes, (i + 1) * pictureBytes), random, strength, entry);
    });
    const named = [...new Set(chosen.map((e) => e.concept))];
    const own = new Set(named);
    while (named.length < Math.min(textCount, concepts.length)) {
      const concept = concepts[random.integer(concepts.length)];
      if (!own.has(concept)) {
        own.add(concept);
        named.push(concept);
      }
    }
    const place = new Map(named.map((c, i) => [c, i]));
    return {
      images: float32([batch, 3, side, side], pixels),
      ids: tokenizer.encode(named.map((c) => textOf(c, emoji.get(c)?.tags ?? [], random)), tokens),
      targets: int64([batch], chosen.map((e) => place.get(e.concept))),
    };
  };
}

/** The pictures as they are, against the names of all concepts. */
export function plainBatch({ list, pictures, rows, tokenizer, settings }) {
  const concepts = [...new Set(list.map((e) => e.concept))].sort();
  const place = new Map(concepts.map((c, i) => [c, i]));
  const pixels = new Float32Array(rows.length * pictureBytes);
  rows.forEach((row, i) => {
    const rgb = pictures.subarray(row * pictureBytes, (row + 1) * pictureBytes);
    for (let p = 0; p < side * side; p++) for (let c = 0; c < 3; c++) {
      pixels[i * pictureBytes + c * side * side + p] = rgb[3 * p + c] / 127.5 - 1;
    }
  });
  return {
    images: float32([rows.length, 3, side, side], pixels),
    ids: tokenizer.encode(concepts, settings.tokens),
    targets: int64([rows.length], rows.map((row) => place.get(list[row].concept))),
  };
}

/** The name, some of its keywords, or both, maybe in a template. */
function textOf(name, tags, random) {
  const kind = random.uniform();
  let text = name;
  if (tags.length > 1 && kind < 0.35) {
    const some = random.shuffle(tags).slice(0, 1 + random.integer(Math.min(3, tags.length)));
    text = kind < 0.12 && some.length > 1 ? some.join(' ') : `${name} ${some.join(' ')}`;
  }
  return random.uniform() < 0.25 ? templates[random.integer(templates.length)].replace('{}', text) : text;
}

/** Turned, moved, scaled, recoloured and partly covered: RGB bytes to [3, 64, 64] in -1 … 1. */
function change(rgb, out, random, strength, { emoji, concept }) {
  const angle = random.uniform(-0.3, 0.3) * strength;
  const zoom = 1 + random.uniform(-0.12, 0.35) * strength; // above 1 the drawing becomes smaller
  const mirrored = emoji && !directed.test(concept) && random.uniform() < 0.5;
  const [cos, sin] = [Math.cos(angle) * zoom, Math.sin(angle) * zoom];
  const stretch = 1 + random.uniform(-0.12, 0.12) * strength;
  const [dx, dy] = [random.uniform(-6, 6) * strength, random.uniform(-6, 6) * strength];
  const paint = recolour(rgb, random, strength);
  const half = (side - 1) / 2;
  const plane = side * side;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const u = (mirrored ? half - x : x - half) * stretch;
      const v = y - half;
      sample(rgb, cos * u - sin * v + half + dx, sin * u + cos * v + half + dy, colour);
      paint(colour);
      const at = y * side + x;
      out[at] = colour[0];
      out[plane + at] = colour[1];
      out[2 * plane + at] = colour[2];
    }
  }
  if (random.uniform() < 0.2 * strength) cover(out, random);
}

const colour = new Float64Array(3);

/** Bilinear; white outside. */
function sample(rgb, x, y, into) {
  const [x0, y0] = [Math.floor(x), Math.floor(y)];
  const [fx, fy] = [x - x0, y - y0];
  into[0] = into[1] = into[2] = 0;
  for (let j = 0; j < 2; j++) {
    for (let i = 0; i < 2; i++) {
      const weight = (i ? fx : 1 - fx) * (j ? fy : 1 - fy);
      const [px, py] = [x0 + i, y0 + j];
      if (px < 0 || py < 0 || px >= side || py >= side) {
        for (let c = 0; c < 3; c++) into[c] += weight * 255;
      } else {
        const at = 3 * (py * side + px);
        for (let c = 0; c < 3; c++) into[c] += weight * rgb[at + c];
      }
    }
  }
  for (let c = 0; c < 3; c++) into[c] = into[c] / 127.5 - 1;
}

/** What is done to each colour in -1 … 1: drawings in grey get two other colours at times, all get other contrasts. */
function recolour(rgb, random, strength) {
  let grey = true;
  for (let i = 0; grey && i < rgb.length; i += 3) grey = rgb[i] === rgb[i + 1] && rgb[i] === rgb[i + 2];
  const random3 = (low, high) => [0, 1, 2].map(() => random.uniform(low, high));
  if (grey && random.uniform() < 0.4 * strength) {
    const light = random3(0.2, 1);
    const dark = random3(-1, 0);
    const inverted = random.uniform() < 0.25;
    const [ink, paper] = inverted ? [light, dark] : [dark, random.uniform() < 0.6 ? [1, 1, 1] : light];
    return (c) => {
      const t = (c[0] + 1) / 2;
      for (let i = 0; i < 3; i++) c[i] = ink[i] + (paper[i] - ink[i]) * t;
    };
  }
  const contrast = 1 + random.uniform(-0.3, 0.2) * strength;
  const colourful = random.uniform() < 0.12 * strength ? 0 : 1 + random.uniform(-0.5, 0.4) * strength;
  const tint = random3(-0.1, 0.1).map((v) => v * strength);
  return (c) => {
    const mean = 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
    for (let i = 0; i < 3; i++) {
      const v = mean + (c[i] - mean) * colourful;
      c[i] = Math.max(-1, Math.min(1, 1 - (1 - v) * contrast + tint[i] * (1 - v)));
    }
  };
}

/** A white or grey rectangle over a part of the picture. */
function cover(out, random) {
  const [w, h] = [8 + random.integer(16), 8 + random.integer(16)];
  const [left, top] = [random.integer(side - w), random.integer(side - h)];
  const value = random.uniform() < 0.5 ? 1 : random.uniform(-1, 1);
  for (let c = 0; c < 3; c++) for (let y = top; y < top + h; y++) {
    out.fill(value, (c * side + y) * side + left, (c * side + y) * side + left + w);
  }
}
