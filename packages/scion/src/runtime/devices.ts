/** Which devices really work here: what ONNX Runtime was built with is not yet on the machine. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { usageError } from '../util/errors.js';
import { type Device, devices } from './session.js';

/** What a device needs, for messages. */
const needs: Record<Device, string> = {
  cpu: 'a processor that ONNX Runtime has a build for',
  webgpu: 'a graphics adapter with its driver',
  cuda: 'an NVIDIA GPU with CUDA 12 and cuDNN 9, and the CUDA libraries that onnxruntime-node downloads on Linux x64 '
    + 'when it is installed without ONNXRUNTIME_NODE_INSTALL=skip',
};

/**
 * Opens a program on a device for a moment, in a process of its own: drivers write to stderr as they please, and may end
 * the process.
 * @returns why it cannot be opened, by ONNX Runtime's own words, or nothing
 */
function probe(program: Uint8Array, device: Device): Promise<string | undefined> {
  const script = fileURLToPath(new URL('./probe.js', import.meta.url));
  const child = spawn(process.execPath, [script, Buffer.from(program).toString('base64'), device], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text; });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const [, said] = /^failed: (.*)$/m.exec(out) ?? [];
      if (said !== undefined) resolve(said);
      else resolve(code === 0 ? undefined : `the driver ended the process (${signal ?? code})`);
    });
  });
}

/** The devices of this machine that open a program, the processor first. */
export async function offeredDevices(program: Uint8Array): Promise<Device[]> {
  const offered: Device[] = [];
  for (const device of devices) if ((await probe(program, device)) === undefined) offered.push(device);
  return offered;
}

/**
 * Makes sure of a device before anything long is begun.
 * @throws ScionError of kind `usage` that names the devices of this machine, where it is none of them
 */
export async function checkDevice(device: Device, program: Uint8Array): Promise<void> {
  if (device === 'cpu') return; // where it does not work, nothing does
  const said = await probe(program, device);
  if (said === undefined) return;
  const offered = (await offeredDevices(program)).join(', ');
  const why = `it needs ${needs[device]} (ONNX Runtime: ${said})`;
  throw usageError('device', `${device} is not available: ${why}; this machine offers ${offered}`);
}
