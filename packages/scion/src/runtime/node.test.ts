import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import ts from 'typescript';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Graph } from '../ir/graph.js';
import { encodeModel } from '../onnx/encode.js';
import * as b from '../ops/build.js';
import { ScionError } from '../util/errors.js';
import { type Tensor, float32, int64, scalar } from '../util/tensor.js';
import { checkDevice, offeredDevices } from './devices.js';
import { nodeRuntime } from './node.js';
import { type Session, devices } from './session.js';

const runtime = nodeRuntime();
afterAll(() => runtime.close());
const open: Session[] = [];
afterEach(async () => { for (const session of open.splice(0)) await session.release(); });

async function load(build: (graph: Graph) => void, on = runtime): Promise<Session> {
  const graph = new Graph();
  build(graph);
  const session = await on.load(encodeModel(graph));
  if (on === runtime) open.push(session);
  return session;
}

/** `y = x + state`, `next = state + 1`. */
const counter = (graph: Graph): void => {
  const state = graph.input('state', 'float32', [], 'state');
  graph.output('y', b.add(graph.input('x', 'float32', [2]), state));
  graph.output('next', b.add(state, 1));
};
const carry = { next: 'state' };
const x = float32([2], [10, 20]);
const numbers = (t: Tensor | undefined): number[] => Array.from(t!.data as ArrayLike<number>);

/** Products of 2048² matrices: 17 GFLOP each. */
const slow = (products: number) => (graph: Graph): void => {
  let m = b.expand(graph.input('x', 'float32', [1]), [2048, 2048]);
  for (let i = 0; i < products; i++) m = b.mul(b.matmul(m, m), 1 / 2048);
  graph.output('y', b.reduceMax(m));
};

test('timers fire while a run goes on', async () => {
  const session = await load(slow(4));
  let ticks = 0;
  const timer = setInterval(() => { ticks++; }, 5);
  const start = performance.now();
  const { y } = await session.run({ x: float32([1], [1]) });
  const elapsed = performance.now() - start;
  clearInterval(timer);
  expect(numbers(y)).toEqual([1]);
  expect(elapsed).toBeGreaterThan(50); // else the test shows nothing
  expect(ticks).toBeGreaterThanOrEqual(Math.floor(elapsed / 50)); // one in ten, for other work on the machine
});

describe('a device', () => {
  const double = new Graph();
  double.output('y', b.mul(double.input('x', 'float32', [2]), 2));
  const program = encodeModel(double);

  test.each(devices)('%s computes, or is refused with what the machine offers', async (device) => {
    const refusal = await checkDevice(device, program.bytes).then(() => undefined, (error: unknown) => error);
    const offered = await offeredDevices(program.bytes);
    expect(offered).toContain('cpu');
    expect(offered.includes(device)).toBe(refusal === undefined);
    if (refusal !== undefined) {
      expect(refusal).toBeInstanceOf(ScionError);
      expect((refusal as ScionError).message)
        .toMatch(new RegExp(`^device: ${device} is not available: it needs .*; this machine offers ${offered.join(', ')}$`));
      return;
    }
    const other = nodeRuntime({ device });
    const session = await other.load(program);
    expect(numbers((await session.run({ x })).y)).toEqual([20, 40]);
    await other.close();
  });
});

describe('what fails', () => {
  test('a model that is refused says so, and other sessions work on', async () => {
    const session = await load(counter);
    await expect(runtime.load({ bytes: Uint8Array.of(1, 2, 3) })).rejects.toThrow(/^ONNX Runtime: /);
    await expect(load((g) => g.output('y', b.bitwiseXor(g.input('x', 'float32', [2]), 1))))
      .rejects.toThrow(/BitwiseXor/);
    expect(numbers((await session.run({ x, state: scalar(1) })).y)).toEqual([11, 21]);
  });

  test('a missing input is named', async () => {
    const session = await load(counter);
    await expect(session.run({ x })).rejects.toThrow(/^ONNX Runtime: .*state.*missing/);
  });

  test('inputs of a wrong shape or dtype are named, and the next run works', async () => {
    const session = await load(counter);
    await expect(session.run({ x: float32([3], [1, 2, 3]), state: scalar(0) }))
      .rejects.toThrow(/ONNX Runtime: .*\bx\b/s);
    await expect(session.run({ x: int64([2], [1, 2]), state: scalar(0) }))
      .rejects.toThrow(/ONNX Runtime: .*(int64|float)/s);
    expect(numbers((await session.run({ x, state: scalar(2) })).y)).toEqual([12, 22]);
  });

  test('a failure in a queue of runs concerns its own run alone', async () => {
    const session = await load(counter);
    await session.hold({ state: scalar(0) });
    const results = await Promise.allSettled([
      session.run({ x }, { carry }),
      session.run({ x: float32([1, 5], [0, 0, 0, 0, 0]) }, { carry }),
      session.run({ x }, { carry }),
    ]);
    expect(results.map((r) => (r.status === 'fulfilled' ? numbers(r.value.y) : 'failed')))
      .toEqual([[10, 20], 'failed', [11, 21]]);
  });

  test('an unknown output or held input is named', async () => {
    const session = await load(counter);
    await expect(session.run({ x, state: scalar(0) }, { fetch: ['z'] })).rejects.toThrow(/ONNX Runtime: .*z/);
    await expect(session.held(['state'])).rejects.toThrow('no value is held for input state');
  });

  test('what cannot be sent to the thread is refused, and nothing waits for it', async () => {
    const session = await load(counter);
    const unsendable = { ...x, note: () => 1 } as Tensor;
    await expect(session.run({ x: unsendable, state: scalar(0) })).rejects.toThrow(/could not be cloned/);
    expect(numbers((await session.run({ x, state: scalar(0) })).y)).toEqual([10, 20]);
  });
});

describe('state', () => {
  test('is carried from run to run, by runs that wait their turn', async () => {
    const session = await load(counter);
    await session.hold({ state: scalar(5) });
    const runs = await Promise.all([1, 2, 3].map(() => session.run({ x }, { carry })));
    expect(runs.map((r) => numbers(r.y))).toEqual([[15, 25], [16, 26], [17, 27]]);
    expect(runs.every((r) => !('next' in r))).toBe(true);
    expect(numbers((await session.held(['state'])).state)).toEqual([8]);
  });

  test('stays as it was without carry, and can be fetched beside being carried', async () => {
    const session = await load(counter);
    await session.hold({ state: scalar(5), x });
    expect(numbers((await session.run({})).next)).toEqual([6]);
    expect(numbers((await session.held(['state'])).state)).toEqual([5]);
    expect(await session.run({}, { carry, fetch: ['next'] })).toEqual({ next: scalar(6) });
    expect(numbers((await session.held(['state'])).state)).toEqual([6]);
  });

  test('a fed value goes before a held one, once', async () => {
    const session = await load(counter);
    await session.hold({ state: scalar(5), x });
    expect(numbers((await session.run({ state: scalar(100) })).y)).toEqual([110, 120]);
    expect(numbers((await session.run({})).y)).toEqual([15, 25]);
  });

  test('of two sessions is apart', async () => {
    const [a, c] = [await load(counter), await load(counter)];
    await a.hold({ state: scalar(1), x });
    await c.hold({ state: scalar(2), x });
    expect([numbers((await a.run({})).y), numbers((await c.run({})).y)]).toEqual([[11, 21], [12, 22]]);
  });
});

describe('shared between sessions', () => {
  test('a value stays what it was when its first owner goes on', async () => {
    const [a, c] = [await load(counter), await load(counter)];
    await a.hold({ state: scalar(1), x });
    await a.share(['state'], c);
    await a.run({}, { carry, fetch: [] });
    expect([numbers((await a.held(['state'])).state), numbers((await c.held(['state'])).state)]).toEqual([[2], [1]]);
    expect(numbers((await c.run({ x })).y)).toEqual([11, 21]);
  });

  test('nothing that is not held, and nothing from another runtime', async () => {
    const [a, other] = [await load(counter), nodeRuntime()];
    await expect(a.share(['state'], await load(counter))).rejects.toThrow('no value is held for input state');
    await a.hold({ state: scalar(1) });
    await expect(a.share(['state'], await load(counter, other))).rejects.toThrow('belongs to another runtime');
    await other.close();
  });
});

test('a kept session comes back without its values, for its own program and options alone', async () => {
  const keeping = nodeRuntime({ keep: 1 });
  try {
    const first = await load(counter, keeping);
    await first.hold({ state: scalar(7), x });
    await first.release();
    const again = await load(counter, keeping);
    await expect(again.held(['state'])).rejects.toThrow('no value is held');
    await again.hold({ state: scalar(1) });
    const different = await load((g) => g.output('y', b.mul(g.input('x', 'float32', [2]), 3)), keeping);
    expect(numbers((await different.run({ x })).y)).toEqual([30, 60]);
    expect(numbers((await again.run({ x })).y)).toEqual([11, 21]); // two at once of the same program are two
    const twin = await load(counter, keeping);
    await twin.hold({ state: scalar(5) });
    expect(numbers((await again.run({ x })).y)).toEqual([11, 21]);
    for (const session of [again, different, twin]) await session.release(); // more than are kept
    expect(numbers((await (await load(counter, keeping)).run({ x, state: scalar(2) })).y)).toEqual([12, 22]);
  } finally {
    await keeping.close();
  }
});

test('a view of a larger buffer is sent without the rest', async () => {
  const session = await load(counter);
  const sent = vi.spyOn(Worker.prototype, 'postMessage');
  try {
    const large = new Float32Array(1_000_000);
    large.set([3, 4], 500);
    const feed = float32([2], large.subarray(500, 502));
    await session.hold({ state: float32([], large.subarray(0, 1)) });
    expect(numbers((await session.run({ x: feed })).y)).toEqual([3, 4]);
    const arrays = sent.mock.calls.flatMap(([message]) => {
      const { feeds, tensors } = message as { feeds?: Record<string, Tensor>; tensors?: Record<string, Tensor> };
      return Object.values({ ...feeds, ...tensors });
    });
    expect(arrays.map((t) => t.data.buffer.byteLength)).toEqual([4, 8]);
    expect(large.buffer.byteLength).toBe(4_000_000); // and is still the caller's
  } finally {
    sent.mockRestore();
  }
});

test('a released session refuses everything but another release', async () => {
  const session = await load(counter);
  await session.release();
  await expect(session.run({ x, state: scalar(0) })).rejects.toThrow('a released session is used');
  await expect(session.hold({ x })).rejects.toThrow('released');
  await expect(session.held(['x'])).rejects.toThrow('released');
  await session.release();
});

test('close in the middle of ONNX Runtime\'s work leaves the process alive', { timeout: 60_000 }, async () => {
  const busy = (graph: Graph): void => {
    let m = b.expand(graph.input('x', 'float32', [1]), [256, 256]);
    for (let i = 0; i < 40; i++) m = b.mul(b.matmul(m, m), 1 / 256);
    graph.output('y', b.reduceMax(m));
  };
  for (let i = 0; i < 20; i++) {
    const other = nodeRuntime();
    const working = load(busy, other).then(async (session) => {
      for (;;) await session.run({ x: float32([1], [1]) });
    });
    const ended = expect(working).rejects.toThrow('the runtime has been closed');
    await new Promise((resolve) => { setTimeout(resolve, 40 + 10 * i); });
    await other.close();
    await ended;
  }
});

test('close ends what is going on and what comes later, with a reason', async () => {
  const other = nodeRuntime();
  const session = await load(slow(20), other);
  const reasons = [session.run({ x: float32([1], [1]) }), session.held(['x'])].map((p) =>
    p.then(() => 'done', (e: Error) => e.message));
  await other.close();
  expect(await Promise.all(reasons)).toEqual(['the runtime has been closed', 'the runtime has been closed']);
  await expect(session.run({ x: float32([1], [1]) })).rejects.toThrow('the runtime has been closed');
  await expect(load(counter, other)).rejects.toThrow('the runtime has been closed');
  await other.close();
});

describe('a program that never closes its runtime', () => {
  let folder: string;
  const source = dirname(fileURLToPath(import.meta.url));

  beforeAll(async () => {
    // what the runtime needs, compiled where its packages are found
    const modules = join(source, '../../../../node_modules');
    folder = await mkdtemp(join(modules, '.scion-runtime-test-'));
    for (const file of ['runtime/node', 'util/errors']) {
      const text = await readFile(join(source, '..', `${file}.ts`), 'utf8');
      const { outputText } = ts.transpileModule(text, {
        compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true },
      });
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, `${file}.js`), outputText);
    }
    await cp(join(source, 'worker.js'), join(folder, 'runtime/worker.js'));
    await writeFile(join(folder, 'package.json'), '{"type":"module"}');
    const graph = new Graph();
    graph.output('y', b.add(graph.input('x', 'float32', [2]), 1));
    await writeFile(join(folder, 'model.onnx'), encodeModel(graph).bytes);
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('lives as long as a run does, and then ends by itself', async () => {
    await writeFile(join(folder, 'main.js'), `
      import { readFileSync } from 'node:fs';
      import { nodeRuntime } from './runtime/node.js';
      const session = await nodeRuntime().load({ bytes: readFileSync(new URL('./model.onnx', import.meta.url)) });
      const { y } = await session.run({ x: { dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) } });
      await session.run({}).catch((error) => console.log(error.message.includes('missing')));
      console.log([...y.data].join());
    `);
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'main.js')], { timeout: 20_000 });
    expect(stdout).toBe('true\n2,3\n');
  });

  test('ends by itself where it never asked for anything', async () => {
    await writeFile(join(folder, 'idle.js'), `
      import { nodeRuntime } from './runtime/node.js';
      nodeRuntime();
      console.log('done');
    `);
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'idle.js')], { timeout: 20_000 });
    expect(stdout).toBe('done\n');
  });
});
