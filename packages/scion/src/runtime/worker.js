// The thread that owns ONNX Runtime's sessions. `InferenceSession.run` blocks its thread, so this one does nothing
// else. Plain JavaScript, so that a worker can be started from the sources and from the build alike.
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import ort from 'onnxruntime-node';

/**
 * @typedef {import('../util/tensor.js').Tensor} Tensor
 * @typedef {import('./session.js').RunOptions} RunOptions
 * @typedef {import('./session.js').SessionOptions} SessionOptions
 * @typedef {{ session: ort.InferenceSession, held: Map<string, ort.Tensor>, key: string | undefined }} Loaded
 */

if (!parentPort) throw new Error('worker.js runs in a worker thread');
const port = parentPort;

/** @type {Map<number, Loaded>} */
const sessions = new Map();

/** What sessions compute on. @type {string} */
const device = workerData?.device ?? 'cpu';

/** How many released sessions are kept for the same program. @type {number} */
const keep = workerData?.keep ?? 0;
/** Released sessions by program and options, the longest unused first. @type {{ key: string, session: ort.InferenceSession }[]} */
const idle = [];

/**
 * What makes two sessions the same; none for a session that is never to be used again: one whose profile is written
 * when it is released, or whose weights lie in files.
 * @param {{ bytes: Uint8Array, folder?: string | undefined, options: SessionOptions }} m
 */
const keyOf = ({ bytes, folder, options }) => (keep === 0 || options.profile || folder !== undefined ? undefined
  : `${createHash('sha256').update(bytes).digest('hex')} ${JSON.stringify(options)}`);

/** @param {number} id */
function loaded(id) {
  const entry = sessions.get(id);
  if (!entry) throw new Error('the session has been released');
  return entry;
}

/** @param {Tensor} t */
const toOrt = (t) => new ort.Tensor(/** @type {any} */ (t.dtype), /** @type {any} */ (t.data), t.shape);

/** @param {ort.Tensor} t @returns {Tensor} */
const fromOrt = (t) => ({ dtype: /** @type {any} */ (t.type), shape: t.dims, data: /** @type {any} */ (t.data) });

const handlers = {
  /** @param {{ id: number, bytes: Uint8Array, folder?: string, options: SessionOptions }} m */
  async load({ id, bytes, folder, options }) {
    const key = keyOf({ bytes, folder, options });
    const again = key === undefined ? -1 : idle.findLastIndex((kept) => kept.key === key);
    if (again >= 0) {
      const [{ session }] = /** @type {[typeof idle[number]]} */ (idle.splice(again, 1));
      sessions.set(id, { session, held: new Map(), key });
      return;
    }
    /** @type {Record<string, string>} */
    const session = { disable_prepacking: options.prepack ? '0' : '1' };
    if (folder !== undefined) session.model_external_initializers_file_folder_path = folder;
    sessions.set(id, {
      session: await ort.InferenceSession.create(bytes, {
        executionProviders: [device],
        ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
        ...(options.profile ? { enableProfiling: true, profileFilePrefix: options.profile } : {}),
        logSeverityLevel: 3,
        // a pattern is one block on top of what the first run took, twice the memory for no time (docs/profile.md)
        enableMemPattern: false,
        extra: { session },
      }),
      held: new Map(),
      key,
    });
  },

  /** @param {{ id: number, feeds: Record<string, Tensor>, options: RunOptions }} m */
  async run({ id, feeds, options }) {
    const { session, held } = loaded(id);
    /** @type {Record<string, ort.Tensor>} */
    const inputs = Object.fromEntries(held);
    for (const [name, t] of Object.entries(feeds)) inputs[name] = toOrt(t);
    const carry = options.carry ?? {};
    const fetch = options.fetch ?? session.outputNames.filter((name) => !(name in carry));
    const outputs = await session.run(inputs, [...new Set([...fetch, ...Object.keys(carry)])]);
    for (const [output, input] of Object.entries(carry)) held.set(input, /** @type {ort.Tensor} */ (outputs[output]));
    return Object.fromEntries(fetch.map((name) => [name, fromOrt(/** @type {ort.Tensor} */ (outputs[name]))]));
  },

  /** @param {{ id: number, tensors: Record<string, Tensor> }} m */
  hold({ id, tensors }) {
    const { held } = loaded(id);
    for (const [name, t] of Object.entries(tensors)) held.set(name, toOrt(t));
  },

  /** @param {{ id: number, names: string[] }} m */
  held({ id, names }) {
    const { held } = loaded(id);
    return Object.fromEntries(names.map((name) => {
      const t = held.get(name);
      if (!t) throw new Error(`no value is held for input ${name}`);
      return [name, fromOrt(t)];
    }));
  },

  /** @param {{ id: number, to: number, names: string[] }} m */
  share({ id, to, names }) {
    const [from, other] = [loaded(id).held, loaded(to).held];
    for (const name of names) {
      const t = from.get(name);
      if (!t) throw new Error(`no value is held for input ${name}`);
      other.set(name, t);
    }
  },

  /** @param {{ id: number }} m */
  async release({ id }) {
    const { session, key } = loaded(id);
    sessions.delete(id);
    if (key !== undefined) idle.push({ key, session });
    else await session.release();
    if (idle.length > keep) await idle.shift()?.session.release();
  },
};

/** Requests are answered one after the other, in the order they came; after `close` the one that runs is the last. */
let queue = Promise.resolve();
let closed = false;
port.on('message', (/** @type {any} */ message) => {
  if (message.kind === 'close') {
    closed = true;
    queue = queue.then(() => port.close());
    return;
  }
  queue = queue.then(async () => {
    if (closed) return;
    try {
      const handler = /** @type {(m: any) => unknown} */ (handlers[/** @type {keyof typeof handlers} */ (message.kind)]);
      port.postMessage({ call: message.call, value: await handler(message) });
    } catch (error) {
      port.postMessage({ call: message.call, error: error instanceof Error ? error.message : String(error) });
    }
  });
});
