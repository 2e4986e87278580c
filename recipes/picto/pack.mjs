/** Writes Picto-11 as the package ships it: `node recipes/picto/pack.mjs DIR`, a packed file for each task. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { drawings, picto11 } from './catalogue.mjs';
import { iconSets } from './icon-sets.mjs';
import { draw } from './rasters.mjs';

const out = process.argv[2] ?? 'packages/scion/datasets/picto-11';
const sets = new Map(iconSets().map((s) => [s.prefix, s]));
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const credits = new Map();
const pathOf = (d) => `${d.id.replace(':', '/')}.svg`;
for (const task of picto11(drawings())) {
  const pictures = {};
  const split = { train: [], test: [], groups: { test: { seen: [], unseen: [] } } };
  for (const [label, { name, train, test }] of task.classes.entries()) {
    for (const [part, list] of Object.entries({ train, test })) {
      for (const d of list) {
        const svg = d.svg();
        if (!(await draw(svg))) continue;
        pictures[pathOf(d)] = svg;
        if (part === 'test') split.groups.test[d.heldOutConcept ? 'unseen' : 'seen'].push(split.test.length);
        split[part].push([pathOf(d), label, name]);
        credits.set(d.set, sets.get(d.set));
      }
    }
  }
  const packed = brotliCompressSync(JSON.stringify({ split, pictures }), { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } });
  writeFileSync(join(out, `${task.name}.json.br`), packed);
  process.stderr.write(`${task.name}: ${task.classes.length} classes, ${split.train.length} train, ${split.test.length} test, `
    + `${split.groups.test.unseen.length} of unseen concepts, ${packed.length} bytes\n`);
}
const lines = [...credits.values()].sort((a, b) => (a.prefix < b.prefix ? -1 : 1)).map(({ prefix, name, author, licence, heldOut }) =>
  `| ${prefix} | ${name} | ${author.url ? `[${author.name}](${author.url})` : author.name} | `
  + `${licence.url ? `[${licence.spdx}](${licence.url})` : licence.spdx} | ${heldOut ? 'test' : 'training'} |`);
writeFileSync(join(out, 'LICENSES.md'), `# Where the drawings of Picto-11 come from
Unchanged but for a square frame. Each stays under the licence of its set.

| set | name | author | licence | used for |
| --- | --- | --- | --- | --- |
${lines.join('\n')}
`);
