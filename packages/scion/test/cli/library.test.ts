/** The package as a program uses it: predictions in a service, training beside them in the same process. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Prediction, type Run, ScionError, loadRun, train } from 'scion-peft';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { library, scratch } from '../support/cli.js';
import { tinyContent, tinyFile } from '../support/features.js';

const folder = await scratch();
const path = join(folder, 'run');
let features: string;
let run: Run;
const { test: held } = tinyContent();
const rows = Array.from({ length: 18 }, (_, r) => [...held!.features.data.slice(8 * r, 8 * r + 8)]);

beforeAll(async () => {
  features = await tinyFile(folder);
  await (await train({ features, method: 'taskres', shots: 4, threads: 1, training: { epochs: 3 },
    out: path })).close();
  run = await loadRun(path);
});
afterAll(() => run.close());

test('a run knows what it is', () => {
  expect(run.classNames).toEqual(['kind 0', 'kind 1', 'kind 2']);
  expect(run.info).toMatchObject({ state: 'finished', method: 'taskres',
    recipe: { shots: 4, training: { epochs: 3 } } });
});

test('rows, a tensor and a file give the same predictions', async () => {
  const fromRows = await run.predict(rows);
  expect(fromRows).toHaveLength(18);
  expect(await run.predict(held!.features)).toEqual(fromRows);
  expect(await run.predictFile(features)).toEqual(fromRows);
  const { accuracy } = await run.evaluate();
  expect(accuracy).toBe(fromRows.filter((p, r) => p.classes[0]!.index === held!.labels[r]).length / 18);
  expect(run.info.result!.test!.accuracy).toBe(accuracy);
});

test('calls may overlap, and a row does not depend on the others', async () => {
  const all = await run.predict(rows);
  const alone = await Promise.all(rows.map((row) => run.predict([row])));
  expect(alone.map(([p]) => p!.label)).toEqual(all.map((p) => p.label));
  alone.forEach(([p], r) =>
    p!.classes.forEach((c, k) => expect(c.probability).toBeCloseTo(all[r]!.classes[k]!.probability, 5)));
  expect(await run.predict([])).toEqual([]);
});

test('rows that do not fit are refused, and the run goes on', async () => {
  await expect(run.predict([[1, 2, 3]])).rejects.toThrow('row 0 has 3 numbers, expected 8');
  await expect(run.predict([rows[0]!,
    rows[1]!.with(4, NaN)])).rejects.toThrow('row 1 holds NaN at column 4, expected finite numbers');
  await expect(run.predict([rows[0]!.with(0, Infinity)])).rejects.toBeInstanceOf(ScionError);
  expect(await run.predict([rows[0]!])).toHaveLength(1);
});

test('after close it says so; closing twice is fine', async () => {
  const own = await loadRun(path);
  await own.predict([rows[0]!]);
  await own.close();
  await own.close();
  await expect(own.predict([rows[0]!])).rejects.toThrow(/closed/);
});

test('a service answers while a training runs in the same process', async () => {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => { body += chunk.toString(); });
    request.on('end', () => {
      run.predict(JSON.parse(body) as number[][], { top: 1 })
        .then((p) => response.end(JSON.stringify(p)), (e: unknown) => response.writeHead(400).end(String(e)));
    });
  });
  await new Promise<void>((done) => { server.listen(0, '127.0.0.1', done); });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ask = async (x: unknown): Promise<Response> => fetch(url, { method: 'POST', body: JSON.stringify(x) });
  try {
    const expected = await run.predict(rows, { top: 1 });
    let training = true;
    let ticks = 0;
    const clock = setInterval(() => { ticks++; }, 10);
    const done = train({ features, method: 'taskres', shots: 4, threads: 1, training: { epochs: 300, batch_size: 4 },
      out: join(folder, 'beside') })
      .finally(() => { training = false; });
    let answered = 0;
    while (training) {
      const answer = await (await ask(rows)).json() as Prediction[];
      if (training) answered++;
      expect(answer).toEqual(expected);
    }
    clearInterval(clock);
    await (await done).close();
    expect(answered).toBeGreaterThan(5);
    expect(ticks).toBeGreaterThan(5);
    const bad = await ask([[1]]);
    expect(bad.status).toBe(400);
    expect(await bad.text()).toContain('expected 8');
  } finally {
    server.close();
  }
});

test('a signal stops a training, with a message that says how to go on', async () => {
  const stop = new AbortController();
  const out = join(folder, 'stopped');
  const stopped = train({ features, method: 'taskres', shots: 4, threads: 1, training: { epochs: 1000 }, out },
    { signal: stop.signal, onMetric: ({ step }) => { if (step === 7) stop.abort(); } });
  await expect(stopped).rejects.toMatchObject({ kind: 'interrupted',
    message: `${out}: stopped; go on with \`scion resume ${out}\`` });
  await expect(loadRun(out)).rejects.toThrow('not finished');
});

test('a program that forgets to close still ends, whether it predicted or not', async () => {
  const { code, stdout, stderr } = await library(`
    const run = await scion.loadRun(argument.path);
    if (argument.rows) console.log((await run.predict(argument.rows)).length);`, { path, rows }).done;
  expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: '18\n' });
  const silent = await library('await scion.loadRun(argument);', path).done;
  expect(silent.code, silent.stderr).toBe(0);
});
