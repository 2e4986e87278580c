/** The runtime of Node: onnxruntime-node in a worker thread, so that timers, servers and Ctrl-C stay alive. */
import { Worker } from 'node:worker_threads';
import type { OnnxModel } from '../onnx/encode.js';
import { assert } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import type { Device, RunOptions, Runtime, Session, SessionOptions, Tensors } from './session.js';

interface Pending { resolve: (value: unknown) => void; reject: (error: Error) => void }

export interface NodeRuntimeOptions {
  /**
   * How many released sessions are kept, without their values, for the next time that the same program is loaded with
   * the same options. 0, the default, frees each at once.
   */
  keep?: number;
  /**
   * What its sessions compute on; the processor by default. What a device cannot do, the processor does. `checkDevice`
   * says whether it is there.
   */
  device?: Device | undefined;
}

/** Starts the thread; it ends with `close()`, and does not keep the process alive while nothing runs. */
export function nodeRuntime({ keep = 0, device = 'cpu' }: NodeRuntimeOptions = {}): Runtime {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { execArgv: [], workerData: { keep, device } });
  const pending = new Map<number, Pending>();
  let calls = 0;
  let count = 0;
  const ids = new WeakMap<Session, number>();
  let failure: Error | undefined;

  const settle = (call: number): Pending | undefined => {
    const waiting = pending.get(call);
    pending.delete(call);
    if (waiting && pending.size === 0) worker.unref();
    return waiting;
  };
  worker.on('message', ({ call, value, error }: { call: number; value: unknown; error?: string }) => {
    if (error === undefined) settle(call)?.resolve(value);
    else settle(call)?.reject(new Error(`ONNX Runtime: ${error}`));
  });
  const fail = (error: Error): void => {
    failure ??= error;
    for (const call of [...pending.keys()]) settle(call)?.reject(failure);
  };
  worker.on('error', fail);
  const ended = new Promise<void>((resolve) => {
    worker.on('exit', (code) => {
      fail(new Error(`the inference thread ended (code ${code})`));
      resolve();
    });
  });

  worker.unref(); // after the listeners, each of which keeps the process alive again

  const request = <T>(kind: string, message: object): Promise<T> => new Promise((resolve, reject) => {
    if (failure) return reject(failure);
    const call = calls++;
    worker.postMessage({ kind, call, ...message }); // first, since it throws on what cannot be cloned
    pending.set(call, { resolve: resolve as (value: unknown) => void, reject });
    worker.ref();
  });

  return {
    async load(model: OnnxModel, options: SessionOptions = {}): Promise<Session> {
      const id = count++;
      await request<void>('load', { id, bytes: compact(model.bytes), folder: model.folder, options });
      let released = false;
      const ask = async <T>(kind: string, message: object): Promise<T> => {
        assert(!released, 'a released session is used');
        return request<T>(kind, { id, ...message });
      };
      const session: Session = {
        run: (feeds, options: RunOptions = {}) => ask<Tensors>('run', { feeds: detached(feeds), options }),
        hold: (tensors) => ask<void>('hold', { tensors: detached(tensors) }),
        held: (names) => ask<Tensors>('held', { names }),
        share: async (names, to) => {
          assert(ids.has(to), 'the session to share with belongs to another runtime');
          await ask<void>('share', { names, to: ids.get(to) });
        },
        release: async () => {
          if (released) return;
          const done = ask<void>('release', {});
          released = true;
          await done;
        },
      };
      ids.set(session, id);
      return session;
    },
    async close(): Promise<void> {
      fail(new Error('the runtime has been closed'));
      // not terminate(): a thread that is ended inside ONNX Runtime takes the process with it
      worker.postMessage({ kind: 'close' });
      worker.ref();
      await ended;
    },
  };
}

/** Runs `work` with a runtime of its own, which is closed whatever comes of it. */
export async function withRuntime<T>(options: NodeRuntimeOptions, work: (runtime: Runtime) => Promise<T>): Promise<T> {
  const runtime = nodeRuntime(options);
  try {
    return await work(runtime);
  } finally {
    await runtime.close();
  }
}

/** Structured cloning copies the whole buffer behind a view, so a view of a larger one is cut out first. */
function compact<T extends { byteLength: number; buffer: ArrayBufferLike; slice(): T }>(array: T): T {
  return array.byteLength === array.buffer.byteLength ? array : array.slice();
}

function detached(tensors: Tensors): Tensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, t]): [string, Tensor] => [
    name, { ...t, data: compact(t.data as Uint8Array) },
  ]));
}
