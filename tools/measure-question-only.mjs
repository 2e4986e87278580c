/**
 * How far a model gets that sees no picture: node tools/measure-question-only.mjs FOLDER, a folder of `scion world`.
 * Prints accuracy in % of the most frequent training answer of each wording, and of each question type.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2];
const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));

function rowsOf(split) {
  const { questions } = read(`v2_OpenEnded_mscoco_${split}_questions.json`);
  const { annotations } = read(`v2_mscoco_${split}_annotations.json`);
  return questions.map(({ question }, i) => (
    { question, type: annotations[i].question_type, answer: annotations[i].multiple_choice_answer }));
}

function majority(rows, key) {
  const tallies = new Map();
  for (const row of rows) {
    const tally = tallies.get(row[key]) ?? new Map();
    tallies.set(row[key], tally.set(row.answer, (tally.get(row.answer) ?? 0) + 1));
  }
  return new Map([...tallies].map(([k, tally]) => [k, [...tally].sort((a, b) => b[1] - a[1])[0][0]]));
}

const train = rowsOf('train2014');
const [byWording, byType] = [majority(train, 'question'), majority(train, 'type')];
for (const split of ['val2014', 'test2015']) {
  const all = rowsOf(split);
  for (const type of ['all', ...new Set(all.map((r) => r.type))]) {
    const rows = type === 'all' ? all : all.filter((r) => r.type === type);
    const percent = (guess) => (100 * rows.filter((r) => guess(r) === r.answer).length / rows.length).toFixed(1);
    const wording = percent((r) => byWording.get(r.question) ?? byType.get(r.type));
    console.log(`${split} ${type}: ${rows.length} questions, by wording ${wording}, by type ${percent((r) => byType.get(r.type))}`);
  }
}
