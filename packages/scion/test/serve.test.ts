/** `scion serve` as a program and as the command: what it answers, what it refuses, and what it does with too much. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Prediction, type RunSet, loadRun, openRuns, train } from '../src/index.js';
import { application } from '../src/server/application.js';
import { type Server, serve, serveDefaults } from '../src/server/index.js';
import { refused, scratch, start } from './support/cli.js';
import { makeData, model, picture } from './support/pictures.js';

const folder = await scratch();
const methods = ['taskres', 'tip-adapter', 'linear-probe'] as const;
const paths = Object.fromEntries(methods.map((method) => [method, join(folder, method)]));
let server: Server;
let data: string;

beforeAll(async () => {
  data = await makeData(join(folder, 'data'), { train: 6 });
  for (const method of methods) {
    const out = paths[method]!;
    await (await train({ data, model, method, shots: 2, cache: false, threads: 1, out })).close();
  }
  server = await serve(paths, { port: 0, concurrency: 4, maxBodyBytes: 300_000, maxPixels: 1_000_000, threads: 1 });
}, 60_000);
afterAll(() => server.close());

type Answer = Prediction & { run: string };
interface Body { predictions?: Answer[]; error?: string }
type Sent = Uint8Array<ArrayBuffer> | FormData;
async function classify(
  body: Sent | undefined, query = '', type = 'image/png', url = server.url,
): Promise<[number, Body]> {
  const headers = body instanceof FormData ? {} : { 'content-type': type };
  const response = await fetch(`${url}/classify${query}`, { method: 'POST', headers, ...(body && { body }) });
  return [response.status, await response.json() as Body];
}
const bytes = async (colour: number, seed: number, size?: number): Promise<Uint8Array<ArrayBuffer>> =>
  Uint8Array.from(await picture(colour, seed, size));
const form = (file: Uint8Array<ArrayBuffer>, name = 'image'): FormData => {
  const all = new FormData();
  all.append(name, new Blob([file], { type: 'image/png' }), 'new.png');
  return all;
};

describe('a picture', () => {
  test('gets what predict says, of every run or of those that are asked, as body or in a form', async () => {
    const file = join(data, 'train/red/0.png');
    const sent = Uint8Array.from(await readFile(file));
    const [status, { predictions }] = await classify(sent, '?top=3');
    expect([status, predictions!.map(({ run }) => run)]).toEqual([200, methods]);
    for (const method of methods) {
      const run = await loadRun(paths[method]!);
      const [expected] = await run.predictImages([file], { top: 3 });
      await run.close();
      const found = predictions!.find(({ run }) => run === method)!;
      expect(found.label).toBe(expected!.label);
      found.classes.forEach(({ label, probability }, i) => {
        expect(label).toBe(expected!.classes[i]!.label);
        expect(probability).toBeCloseTo(expected!.classes[i]!.probability, 5);
      });
    }
    expect((await classify(form(sent), '?run=linear-probe&run=taskres&top=3'))[1].predictions)
      .toEqual([predictions![2], predictions![0]]);
    const [, rejected] = await classify(sent, '?run=taskres&reject=0.0001');
    expect(rejected.predictions![0]).toMatchObject({ run: 'taskres' });
  });

  test('is encoded once, by one thread, for runs on the same backbone', () => {
    const { workers } = process.report.getReport() as { workers: unknown[] };
    expect(workers).toHaveLength(1);
  });
});

test('runs on two backbones each get features of their own, from the bytes alone', async () => {
  const picto = join(folder, 'picto');
  await (await train({ data, model: 'picto', method: 'tip-adapter', shots: 2, cache: false, out: picto })).close();
  const set = await openRuns({ clip: paths['taskres']!, picto });
  const file = join(data, 'train/green/1.png');
  try {
    const found = await set.classify(await readFile(file), { top: 3 });
    for (const [name, path] of [['clip', paths['taskres']!], ['picto', picto]] as const) {
      const run = await loadRun(path);
      const [expected] = await run.predictImages([file], { top: 3 });
      await run.close();
      found.get(name)!.classes.forEach(({ label, probability }, i) => {
        expect(label).toBe(expected!.classes[i]!.label);
        expect(probability).toBeCloseTo(expected!.classes[i]!.probability, 4);
      });
    }
    await expect(set.classify(await readFile(file), { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  } finally {
    await set.close();
  }
  await expect(openRuns({ a: join(folder, 'none'), b: join(folder, 'data') })).rejects.toMatchObject({
    issues: [{ path: join(folder, 'none') }, { path: join(folder, 'data') }],
  });
});

describe('what is no picture, or too much of one', () => {
  type Make = () => Promise<Sent | undefined> | Sent | undefined;
  const cases: readonly [string, Make, number, RegExp, string?, string?][] = [
    ['text', () => new TextEncoder().encode('hello'), 400, /is a text file, expected a JPEG, PNG/],
    ['an empty body', () => new Uint8Array(), 400, /there is no body/],
    ['no body', () => undefined, 400, /there is no body/],
    ['half a picture', async () => (await bytes(0, 1)).slice(0, 150), 400, /cut short or damaged/],
    ['too large a body', () => new Uint8Array(400_000), 413, /too large, expected at most 300000 bytes/],
    ['too large a file in a form', () => form(new Uint8Array(360_000)), 413, /too large/],
    ['an empty form', () => { const all = new FormData(); all.append('x', 'y'); return all; }, 400, /has no picture/],
    ['a bomb', async () => Uint8Array.from(await sharp({
      create: { width: 8000, height: 8000, channels: 3, background: 'white' },
    }).png().toBuffer()), 400, /64000000 pixels, expected at most 1000000/],
    ['another type', () => new TextEncoder().encode('{}'), 415, /expected a body of type image/, '',
      'application/json'],
    ['an unknown run', () => bytes(0, 1), 400, /unknown run "taskre"; did you mean taskres/, '?run=taskre'],
    ['a wrong top', () => bytes(0, 1), 400, /top: "0", expected a whole number/, '?top=0'],
    ['two tops', () => bytes(0, 1), 400, /top: .*expected a whole number/, '?top=1&top=2'],
    ['a wrong reject', () => bytes(0, 1), 400, /reject: "2", expected the share/, '?reject=2'],
    ['an unknown parameter', () => bytes(0, 1), 400, /unknown parameter "k"/, '?k=1'],
    ['a name of Object', () => bytes(0, 1), 400, /unknown run "constructor"/, '?run=constructor'],
  ];
  test.each(cases)('%s', async (_, body, expected, message, query, type) => {
    const [status, answer] = await classify(await body(), query, type);
    expect([status, Object.keys(answer)]).toEqual([expected, ['error']]);
    expect(answer.error).toMatch(message);
    expect(answer.error).not.toMatch(/\n|at .*:\d+:\d+|node_modules/);
  });

  test('a body that says one length and ends at another, and a form that never ends', async () => {
    const raw = (text: string): Promise<string> => new Promise((resolve, reject) => {
      const { port, hostname } = new URL(server.url);
      let got = '';
      const socket = connect(Number(port), hostname, () => socket.end(text));
      socket.setEncoding('utf8').on('data', (part: string) => { got += part; });
      socket.on('close', () => resolve(got)).on('error', reject);
    });
    await raw('POST /classify HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nabc');
    await raw('POST /classify HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n'
      + 'content-length: 90\r\n\r\n--b\r\ncontent-disposition: form-data; name="a"; filename="a.png"\r\n\r\nabc');
    // neither keeps a place
    expect((await classify(await bytes(1, 5)))[0]).toBe(200);
    await expectMetric(server.url, /scion_http_requests_in_flight 0\n/);
  });
});

async function expectMetric(url: string, pattern: RegExp): Promise<void> {
  let text = '';
  for (let attempt = 0; attempt < 40; attempt++) {
    text = await (await fetch(`${url}/metrics`)).text();
    if (pattern.test(text)) return;
    await sleep(50);
  }
  expect(text).toMatch(pattern);
}

describe('what is said of the server', () => {
  test('health, runs and metrics', async () => {
    expect(await (await fetch(`${server.url}/health`)).json()).toMatchObject({ status: 'ok', runs: methods });
    const { runs } = await (await fetch(`${server.url}/runs`)).json() as { runs: object[] };
    expect(runs[0]).toEqual({ name: 'taskres', method: 'taskres', model: 'model', classes: ['blue', 'green', 'red'] });
    const response = await fetch(`${server.url}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    expect(text).toMatch(/scion_http_requests_total\{route="\/classify",status="200"\} [1-9]/);
    expect(text).toMatch(/scion_predictions_total\{run="taskres",rejected="false"\} [1-9]/);
    expect(text).toContain('process_resident_memory_bytes');
    const [status, other] = await (async () => {
      const found = await fetch(`${server.url}/other`);
      return [found.status, await found.json()] as const;
    })();
    expect([status, other]).toEqual([404, { error: expect.stringMatching(/there is no GET \/other/) as string }]);
  });
});

describe('four times what it can take', () => {
  test('is answered or refused, every request of it, while health answers', async () => {
    const sent = await Promise.all([0, 1, 2].map((colour) => bytes(colour, 70 + colour)));
    const ask = '?run=taskres&top=3';
    const alone = await Promise.all(sent.map(async (one) => (await classify(one, ask))[1].predictions));
    const outcomes = { 200: 0, 503: 0 };
    const client = async (n: number): Promise<void> => {
      for (let i = 0; i < 25; i++) {
        const which = (n + i) % 3;
        const [status, answer] = await classify(sent[which], ask);
        if (status === 200) expect(answer.predictions).toEqual(alone[which]);
        else expect([status, answer.error]).toEqual([503, 'all 4 places are taken; try again in a second']);
        outcomes[status as 200]++;
      }
    };
    const load = Promise.all(Array.from({ length: 16 }, (_, n) => client(n)));
    const health = await fetch(`${server.url}/health`);
    await load;
    expect(health.status).toBe(200);
    expect(outcomes[200] + outcomes[503]).toBe(400);
    expect(Math.min(outcomes[200], outcomes[503])).toBeGreaterThan(0);
    await expectMetric(server.url, /scion_http_requests_in_flight 0\n/);
  });
});

describe('work that takes its time', () => {
  /** Runs that answer when they are told to. */
  function slow(): { runs: RunSet; finish: (() => void)[]; closed: () => boolean } {
    let closed = false;
    const finish: (() => void)[] = [];
    const runs: RunSet = {
      models: 1, runs: new Map(),
      classify: () => new Promise((resolve) => { finish.push(() => resolve(new Map())); }),
      close: async () => { closed = true; await sleep(0); },
    };
    return { runs, finish, closed: () => closed };
  }
  const settings = { ...serveDefaults, concurrency: 1, timeout: 1 };

  test('keeps its place after its time is over, so that no more is begun', async () => {
    const { runs, finish } = slow();
    const app = application(runs, settings);
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    const one = await bytes(0, 1);
    expect(await classify(one, '', 'image/png', url)).toEqual([504, { error: 'the picture took longer than 1 s' }]);
    expect((await classify(one, '', 'image/png', url))[0]).toBe(503);
    finish[0]!();
    await sleep(20);
    const next = classify(one, '', 'image/png', url);
    while (finish.length < 2) await sleep(5);
    finish[1]!();
    expect((await next)[0]).toBe(200);
    await app.close();
  });

  test('is waited for when the server closes, and new requests are refused', async () => {
    const { runs, finish, closed } = slow();
    const app = application(runs, { ...settings, timeout: 10 });
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    const under = classify(await bytes(0, 1), '', 'image/png', url);
    while (finish.length === 0) await sleep(5);
    const closing = app.close();
    await sleep(50);
    expect(closed()).toBe(false);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
    finish[0]!();
    expect((await under)[0]).toBe(200);
    await closing;
    expect(closed()).toBe(true);
  });

  test('a body that does not come is given up, and its place is free again', async () => {
    const { runs, finish } = slow();
    const app = application(runs, settings);
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () =>
      socket.write('POST /classify HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nabc'));
    let got = '';
    socket.setEncoding('utf8').on('data', (part: string) => { got += part; });
    await new Promise((resolve) => socket.on('close', resolve));
    expect(got).toMatch(/^HTTP\/1\.1 408 /);
    const next = classify(await bytes(0, 1), '', 'image/png', url);
    while (finish.length === 0) await sleep(5);
    finish[0]!();
    expect((await next)[0]).toBe(200);
    await app.close();
  });

  test('a defect is a 500 without its insides', async () => {
    const defects: unknown[] = [];
    const runs: RunSet = {
      models: 1, runs: new Map(), classify: () => Promise.reject(new Error('secret')), close: () => Promise.resolve(),
    };
    const app = application(runs, { ...settings, onDefect: (error) => defects.push(error) });
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    expect(await classify(await bytes(0, 1), '', 'image/png', url))
      .toEqual([500, { error: 'the server failed; its log says how' }]);
    expect(defects).toEqual([expect.objectContaining({ message: 'secret' })]);
    await app.close();
  });
});

describe('the command', () => {
  test('serves until it is told to stop, and then ends with 0', async () => {
    const running = start(['serve', `red=${paths['taskres']!}`, paths['linear-probe']!, '--port', '0', '--json']);
    for (let i = 0; i < 200 && !running.stdout().endsWith('}\n'); i++) await sleep(50);
    const { url, runs } = JSON.parse(running.stdout()) as { url: string; runs: string[] };
    expect(runs).toEqual(['red', 'linear-probe']);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await classify(await bytes(0, 1), '?run=red', 'image/png', url))[0]).toBe(200);
    running.child.kill('SIGTERM');
    const { code, stderr } = await running.done;
    expect([code, stderr]).toEqual([0, 'SIGTERM: answering what is under way; once more to stop at once\n']);
  });

  test('says what is wrong before it listens', async () => {
    const taskres = paths['taskres']!;
    await refused(folder, 2, ['serve', taskres, taskres], [/two runs are called taskres/]);
    await refused(folder, 2, ['serve', taskres, '--port', '70000', '--concurrency', '0'],
      [/--port: 70000: expected a whole number from 0 to 65535/, /--concurrency: 0: expected/]);
    await refused(folder, 1, ['serve', taskres, join(folder, 'none'), join(folder, 'data')],
      [/none: is no run folder/, /data: is no run folder/]);
    await refused(folder, 1, ['serve', taskres, '--port', new URL(server.url).port],
      [/--port: cannot listen on 127\.0\.0\.1:\d+ \(another program does already\)/]);
    await refused(folder, 1, ['serve', taskres, '--port', '0', '--model', 'picto'], [/is another model than the run/]);
  });
});
