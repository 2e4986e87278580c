/** Whether ONNX Runtime works here, and at what rate it multiplies matrices. */
import { Graph } from '../ir/graph.js';
import { encodeModel } from '../onnx/encode.js';
import * as f from '../nn/functional.js';
import * as probing from '../runtime/devices.js';
import { withRuntime } from '../runtime/node.js';
import type { Device } from '../runtime/session.js';
import { zeros } from '../util/tensor.js';

/** A program that every device can run. */
function smallest(): Uint8Array {
  const graph = new Graph();
  graph.output('y', f.relu(graph.input('x', 'float32', [1])));
  return encodeModel(graph).bytes;
}

/**
 * Makes sure of a device before anything long is begun.
 * @throws ScionError of kind `usage` that names the devices of this machine, where it is none of them
 */
export const checkDevice = (device: Device = 'cpu'): Promise<void> => probing.checkDevice(device, smallest());

/** The devices of this machine, the processor first. */
export const offeredDevices = (): Promise<Device[]> => probing.offeredDevices(smallest());

/** Runs a 1024³ product a few times; the best one counts. Seconds until the first session was ready. */
export async function checkRuntime(): Promise<{ gflops: number; seconds: number }> {
  const n = 1024;
  const graph = new Graph();
  const [a, b] = ['a', 'b'].map((name) => graph.input(name, 'float32', [n, n]));
  graph.output('c', f.reduceSum(f.matmul(a!, b!)));
  const started = performance.now();
  return withRuntime({}, async (runtime) => {
    const session = await runtime.load(encodeModel(graph));
    const seconds = (performance.now() - started) / 1000;
    await session.hold({ a: zeros('float32', [n, n]), b: zeros('float32', [n, n]) });
    let best = Infinity;
    for (let i = 0; i < 5; i++) {
      const before = performance.now();
      await session.run({});
      best = Math.min(best, (performance.now() - before) / 1000);
    }
    return { gflops: (2 * n ** 3) / best / 1e9, seconds };
  });
}
