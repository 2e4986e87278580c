// Whether a program opens on a device: `node probe.js <program in base64> <device>`. Plain JavaScript as worker.js.
import ort from 'onnxruntime-node';

const [, , program = '', device = ''] = process.argv;
try {
  const session = await ort.InferenceSession.create(Buffer.from(program, 'base64'), { executionProviders: [device] });
  await session.release();
} catch (error) {
  // the last sentence of the first line: before it stands where in its sources ONNX Runtime gave up
  const [line = ''] = String(error instanceof Error ? error.message : error).split('\n');
  process.stdout.write(`failed: ${line.split('. ').at(-1)}\n`);
}
