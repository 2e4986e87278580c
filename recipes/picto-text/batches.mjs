/** What a step of pretraining sees: whole texts, some words of which are hidden, or with the word after each. */
import { Random, float32, int64 } from 'scion-peft';

/**
 * Puts texts into rows of `length` tokens: a row begins with the next text, and then takes the longest that still fit.
 * A text that is longer than a row is cut.
 * @param {number[][]} texts token ids, each with the token that parts it from the next
 * @returns {number[][]} rows of at most `length` tokens, in an order of their own
 */
export function packRows(texts, length, random) {
  const byLength = Array.from({ length: length + 1 }, () => []);
  for (const text of random.shuffle(texts)) byLength[Math.min(text.length, length)].push(text.slice(0, length));
  const order = random.shuffle(byLength.flatMap((bucket, n) => bucket.map(() => n)));
  const rows = [];
  for (const n of order) {
    if (byLength[n].length === 0) continue; // taken to fill up an earlier row
    const row = [...byLength[n].pop()];
    for (let room = length - row.length; room > 0; room--) {
      while (room > 0 && byLength[room].length > 0) {
        const text = byLength[room].pop();
        row.push(...text);
        room = length - row.length;
      }
    }
    rows.push(row);
  }
  return rows;
}

/** The rows of a step: every epoch goes through all of them in an order of its own. */
function rowsOf(rows, batch, random) {
  const perEpoch = Math.floor(rows.length / batch);
  let order = { epoch: -1 };
  return (step) => {
    const epoch = Math.floor(step / perEpoch);
    if (order.epoch !== epoch) order = { epoch, rows: random.child('epoch', epoch).shuffle(rows) };
    const from = (step % perEpoch) * batch;
    return order.rows.slice(from, from + batch);
  };
}

/**
 * Batches for masked-language modelling. Of the tokens of a row `hidden` are to be found: 80 % of them are replaced by
 * the mask, 10 % by any token and 10 % by nothing.
 * @param {{ pad: number, begin: number, mask: number, special: number, size: number }} ids of the vocabulary; `special`
 *   of them come first, and the mask last
 */
export function maskedBatches({ rows, batch, length, hidden, ids: { pad, begin, mask, special, size }, seed }) {
  const next = rowsOf(rows, batch, Random.seeded(seed));
  return (step) => {
    const random = Random.seeded(seed).child('hidden', step);
    const ids = new Array(batch * length).fill(pad);
    const [places, targets, weights] = [[], [], []];
    next(step).forEach((row, b) => {
      [begin, ...row].forEach((id, t) => { ids[b * length + t] = id; });
      const words = row.flatMap((id, t) => (id >= special ? [t + 1] : []));
      const chosen = random.shuffle(words).slice(0, hidden);
      for (let i = 0; i < hidden; i++) {
        const t = chosen[i] ?? 0;
        const at = b * length + t;
        places.push(t * batch + b);
        targets.push(ids[at]);
        weights.push(i < chosen.length ? 1 : 0);
        if (i >= chosen.length) continue;
        const kind = random.uniform();
        if (kind < 0.8) ids[at] = mask;
        else if (kind < 0.9) ids[at] = special + random.integer(size - special - 1);
      }
    });
    return {
      ids: int64([batch, length], ids), mask: float32([batch, length], ids.map((id) => (id === pad ? 0 : 1))),
      places: int64([places.length], places), targets: int64([targets.length], targets),
      weights: float32([weights.length], weights),
    };
  };
}

/** Batches for language modelling: rows from their begin to the token before the last, and what comes after each. */
export function causalBatches({ rows, batch, length, ids: { begin }, seed }) {
  const next = rowsOf(rows, batch, Random.seeded(seed));
  return (step) => {
    const ids = new Array(batch * length).fill(begin);
    const targets = new Array(length * batch).fill(begin);
    const weights = new Array(length * batch).fill(0);
    next(step).forEach((row, b) => {
      [begin, ...row].slice(0, length).forEach((id, t) => { ids[b * length + t] = id; });
      row.forEach((id, t) => {
        targets[t * batch + b] = id;
        weights[t * batch + b] = 1;
      });
    });
    const after = [length, batch];
    return { ids: int64([batch, length], ids), targets: int64(after, targets), weights: float32(after, weights) };
  };
}
