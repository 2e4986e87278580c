// npm run bench -- engine | lora | caption | graph-adapter | encode | serve [options]
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { cores } from './lib/machine.mjs';

const benchmarks = {
  engine: async (options) => (await import('./engine.mjs')).engine(options),
  lora: async (options) => (await import('./lora.mjs')).lora(options),
  caption: async (options) => (await import('./caption.mjs')).caption(options),
  'graph-adapter': async (options) => (await import('./graph-adapter.mjs')).graphAdapter(options),
  encode: async (options) => (await import('./encode.mjs')).encode(options),
  serve: async (options) => (await import('./serve.mjs')).serve(options),
};

const usage = `npm run bench -- <${Object.keys(benchmarks).join(' | ')}> [options]
  --tokens 50,197       engine: tokens per image
  --batch N             engine: images per step; default: 8
  --recompute           engine, lora, caption: the training step with activations recomputed, against the one that keeps them
  --classes 37,100,...  graph-adapter: numbers of classes
  --dim 512,1024        graph-adapter: feature widths
  --data DIR            encode: pictures; about 800 x 600 pixels of noise are made where absent
  --images N            encode: pictures of one repetition; default: 1000
  --requests N          serve: requests at four times the rate that it answers; default: 10000
  --repetitions N       paired repetitions
  --threads N           of both sides; default: all cores
  --python COMMAND      a Python with PyTorch (lora: and peft; caption: and transformers); default: python3
  --profile             engine, lora, caption, encode: where Scion's time goes, in place of the comparison
  --json FILE           write the results there too`;

/** Positive integers, as in `50,197`. */
function integers(name, text) {
  const values = text.split(',').map(Number);
  if (values.every((v) => Number.isInteger(v) && v > 0)) return values;
  throw new TypeError(`--${name} ${text}: expected positive integers`);
}

function readArguments() {
  const { values, positionals: [name, ...more] } = parseArgs({
    allowPositionals: true,
    options: {
      tokens: { type: 'string', default: '50,197' }, batch: { type: 'string', default: '8' },
      recompute: { type: 'boolean', default: false }, classes: { type: 'string', default: '37,100,397,1000' },
      dim: { type: 'string', default: '512,1024' }, repetitions: { type: 'string' },
      threads: { type: 'string', default: String(cores) }, python: { type: 'string', default: 'python3' },
      data: { type: 'string' }, images: { type: 'string', default: '1000' },
      requests: { type: 'string', default: '10000' },
      profile: { type: 'boolean', default: false }, json: { type: 'string' },
    },
  });
  if (!Object.hasOwn(benchmarks, name ?? '') || more.length > 0) {
    throw new TypeError(`expected one benchmark: ${Object.keys(benchmarks).join(' or ')}`);
  }
  return {
    run: benchmarks[name], json: values.json,
    options: {
      ...Object.fromEntries(['tokens', 'classes', 'dim'].map((key) => [key, integers(key, values[key])])),
      batch: integers('batch', values.batch)[0], recompute: values.recompute,
      images: integers('images', values.images)[0], requests: integers('requests', values.requests)[0], data: values.data,
      threads: integers('threads', values.threads)[0], python: values.python, profile: values.profile,
      ...(values.repetitions && { repetitions: integers('repetitions', values.repetitions)[0] }),
    },
  };
}

let given;
try {
  given = readArguments();
} catch (error) {
  console.error(`${error.message}\n\n${usage}`);
  process.exit(2);
}
const result = await given.run(given.options);
if (given.json) await writeFile(given.json, `${JSON.stringify(result, null, 2)}\n`);
