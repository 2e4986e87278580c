// ONNX Runtime's own profile of a program, summed by op and by module.
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { percent, table } from './markdown.mjs';

const steps = 6;
const skipped = 2; // the first steps allocate
const products = /^(MatMul|FusedMatMul|Gemm|FusedGemm)$/;

/**
 * Prints the tables of a side's runs.
 * @param {(profile: string, runs: number) => Promise<unknown>} work has the side write a profile with this prefix
 */
export async function profiled(side, work) {
  const folder = await mkdtemp(join(tmpdir(), 'scion-profile-'));
  try {
    await work(join(folder, 'profile'), steps);
    await side.ask('release'); // writes the file
    const [file] = await readdir(folder);
    print(JSON.parse(await readFile(join(folder, file), 'utf8')));
  } finally {
    await side.quit();
    await rm(folder, { recursive: true });
  }
}

/** `layers.3.mlp/backward/Erf_712` → `layers.*.mlp/backward` */
function moduleOf(event) {
  const name = event.name.replace(/_kernel_time$/, '').replace(/\/[^/]*_\d+(\/.*)?$/, '');
  return name.replace(/\.\d+\b/g, '.*') || 'main';
}

function print(events) {
  const kernels = events.filter((e) => e.cat === 'Node' && e.name.endsWith('_kernel_time'));
  const runs = events.filter((e) => e.name === 'model_run').slice(skipped);
  const start = Math.min(...runs.map((e) => e.ts));
  const counted = kernels.filter((e) => e.ts >= start);
  const total = counted.reduce((sum, e) => sum + e.dur, 0);
  const wall = runs.reduce((sum, e) => sum + e.dur, 0);
  const milliseconds = (us) => (us / runs.length / 1e3).toFixed(1);

  const sums = (key) => {
    const groups = new Map();
    for (const e of counted) {
      const [time, count] = groups.get(key(e)) ?? [0, 0];
      groups.set(key(e), [time + e.dur, count + 1]);
    }
    const rows = [...groups].sort(([, [a]], [, [b]]) => b - a);
    const shown = rows.filter(([, [time]]) => time >= 0.003 * total);
    const rest = rows.slice(shown.length).reduce(([t, c], [, [time, count]]) => [t + time, c + count], [0, 0]);
    return [...shown, ...(rest[1] ? [['(the rest)', rest]] : [])].map(([name, [time, count]]) =>
      [name, count / runs.length, milliseconds(time), percent(time / total)]);
  };
  console.log(table(['op', 'nodes', 'ms', 'share'], sums((e) => e.args.op_name)));
  console.log(`\n${table(['module', 'nodes', 'ms', 'share'], sums(moduleOf))}`);
  const direction = (e) => (/\/backward/.test(e.name) || e.name.startsWith('backward/') ? 'backward'
    : e.name.startsWith('optimizer/') ? 'optimizer' : 'forward');
  console.log(`\n${table(['part', 'nodes', 'ms', 'share'], sums(direction))}`);
  const inProducts = counted.filter((e) => products.test(e.args.op_name)).reduce((sum, e) => sum + e.dur, 0);
  console.log(`
Mean of ${runs.length} steps: ${milliseconds(wall)} ms in the session, ${milliseconds(total)} ms of it in kernels, \
${percent(inProducts / total)} of that in matrix products.`);
}
