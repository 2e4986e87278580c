// npm run bench -- serve: scion serve under several times the load that it can take. Every request must be answered or
// refused, health must answer meanwhile, and memory must not grow.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { train } from 'scion-peft';
import { describe, machine } from './lib/machine.mjs';
import { megabytes, table } from './lib/markdown.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const command = fileURLToPath(new URL('../packages/scion/dist/cli/main.js', import.meta.url));
/** Times the rate that the server answers by itself. */
const overload = 4;
/** Resident memory at the end, as a part of that after the first tenth: more is a leak. */
const flat = 1.1;
/**
 * V8 collects late where it has room, so that a growing heap says nothing by itself. With this little, a leak would end the
 * server.
 */
const heap = ['--max-old-space-size=64', '--max-semi-space-size=4'];
const sides = [64, 96, 128, 200, 320];

/** @param {{ requests: number, threads: number }} options */
export async function serve({ requests, threads }) {
  const out = `${here}out/serve`;
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const method of ['tip-adapter-f', 'taskres']) {
    const recipe = { data: 'picto-11/navigation', model: 'picto', method, shots: 4, out: `${out}/${method}` };
    await (await train(recipe)).close();
  }
  const pictures = await Promise.all(sides.map(drawing));
  const server = spawn(process.execPath, [...heap, command, 'serve', `${out}/tip-adapter-f`, `${out}/taskres`,
    '--port', '0', '--threads', String(threads), '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const { url } = JSON.parse(await firstJson(server));
    const expected = await Promise.all(pictures.map((picture) => ask(url, picture)));
    const rate = await capacity(url, pictures);
    const measured = await load(url, server.pid, pictures, expected, requests, rate);
    const result = { machine: machine(), threads, requests, rate, ...measured };
    server.kill('SIGTERM');
    const [code] = await once(server, 'exit');
    print({ ...result, code });
    const problems = [
      [result.lost > 0, `${result.lost} requests were lost`], [result.wrong > 0, `${result.wrong} answers were others`],
      [code !== 0, `the server ended with ${code}`], [result.growth > flat, `memory grew ${result.growth.toFixed(2)} times`],
    ].flatMap(([bad, message]) => (bad ? [message] : []));
    if (problems.length > 0) throw new Error(problems.join('; '));
    return { ...result, code };
  } finally {
    server.kill('SIGKILL');
  }
}

/** A sign of its own for each size. */
function drawing(side, i) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" fill="#fff"/>
    <path d="M4 ${6 + 2 * i}h${6 + 2 * i}v-4l8 8-8 8v-4H4z"/></svg>`;
  return sharp(Buffer.from(svg), { density: 72 * (side / 24) }).resize(side, side).png().toBuffer();
}

async function firstJson(child) {
  let text = '';
  child.stdout.setEncoding('utf8');
  for await (const part of child.stdout) {
    text += part;
    if (text.endsWith('}\n')) return text;
  }
  throw new Error('the server did not start');
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 512 });

/** @returns the status and the text of the answer; a status of 0 where there is none */
function ask(url, picture) {
  return new Promise((resolve) => {
    const headers = { 'content-type': 'image/png', 'content-length': picture.length };
    const request = http.request(`${url}/classify?top=2`, { method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => { text += part; });
      response.on('end', () => resolve({ status: response.statusCode, text }));
      response.on('error', (error) => resolve({ status: 0, text: error.message }));
    });
    request.on('error', (error) => resolve({ status: 0, text: error.message }));
    request.end(picture);
  });
}

/** Requests a second that eight clients get answered, one after the other each. */
async function capacity(url, pictures) {
  const started = performance.now();
  let answered = 0;
  await Promise.all(Array.from({ length: 8 }, async (_, client) => {
    for (let i = 0; performance.now() - started < 5000; i++) {
      if ((await ask(url, pictures[(client + i) % pictures.length])).status === 200) answered++;
    }
  }));
  return answered / ((performance.now() - started) / 1000);
}

/** Sends all requests at a fixed rate, whatever becomes of them. */
async function load(url, pid, pictures, expected, requests, rate) {
  const counts = { answered: 0, refused: 0, lost: 0, wrong: 0 };
  const memory = [];
  const health = [];
  const reasons = new Map();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const began = performance.now();
      const { ok } = await fetch(`${url}/health`);
      if (!ok) throw new Error('health does not answer');
      health.push(performance.now() - began);
      await sleep(100);
    }
  })();
  const started = performance.now();
  const sent = [];
  for (let i = 0; i < requests; i++) {
    const due = started + (i / (overload * rate)) * 1000;
    if (due > performance.now()) await sleep(due - performance.now());
    if (i % Math.floor(requests / 100) === 0) memory.push(await resident(pid));
    const which = i % pictures.length;
    sent.push(ask(url, pictures[which]).then(({ status, text }) => {
      if (status === 200) counts[text === expected[which].text ? 'answered' : 'wrong']++;
      else if (status === 503) counts.refused++;
      else {
        counts.lost++;
        reasons.set(text, (reasons.get(text) ?? 0) + 1);
      }
    }));
  }
  await Promise.all(sent);
  const seconds = (performance.now() - started) / 1000;
  memory.push(await resident(pid));
  watching = false;
  await watch;
  health.sort((a, b) => a - b);
  const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const tenth = Math.floor(memory.length / 10);
  return {
    ...counts, seconds, reasons: Object.fromEntries(reasons),
    health: { median: middle(health), p99: health[Math.floor(health.length * 0.99)] },
    trace: memory.map((bytes) => Math.round(bytes / 1e6)),
    memory: {
      first: middle(memory.slice(tenth, 2 * tenth)), last: middle(memory.slice(-tenth)), most: Math.max(...memory),
    },
    growth: middle(memory.slice(-tenth)) / middle(memory.slice(tenth, 2 * tenth)),
  };
}

/** Resident memory in bytes (Linux). */
async function resident(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

function print({ machine: on, threads, requests, rate, answered, refused, lost, wrong, seconds, health, memory, growth }) {
  console.log(`${describe(on)}; ${threads} threads; picto, two runs; ${requests} requests at ${overload} times `
    + `${rate.toFixed(0)} a second, in ${seconds.toFixed(0)} s\n`);
  console.log(table(['answered', 'refused', 'lost', 'wrong', 'health, median', 'health, 99 %', 'memory, second tenth',
    'last tenth', 'most', 'growth'], [[answered, refused, lost, wrong, `${health.median.toFixed(0)} ms`,
    `${health.p99.toFixed(0)} ms`, megabytes(memory.first), megabytes(memory.last), megabytes(memory.most),
    growth.toFixed(3)]]));
}
