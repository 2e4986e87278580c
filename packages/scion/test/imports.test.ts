/** The layout of the package: which folder may import which, and where Node's own modules may be used. */
import { readFile, readdir } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

interface Rule {
  /** Folders it may import, beside itself and `util`. `index` is the package's public entry. */
  folders?: readonly string[];
  /** Packages it may import. */
  packages?: readonly string[];
  /** Files that may use `node:` modules. */
  node?: RegExp;
}

const compute = ['ir', 'ops', 'autodiff', 'passes', 'optim', 'onnx', 'runtime', 'nn', 'peft'];
const surface: Rule = {
  folders: ['index'], packages: ['@observablehq/plot', 'commander', 'linkedom', 'yaml', 'zod'], node: /^/,
};

const layout: Readonly<Record<string, Rule>> = {
  util: { packages: ['fastest-levenshtein'] },
  formats: { node: /^(files|folder|.*-node)\.ts$/ },
  ir: {},
  ops: { folders: ['ir'] },
  autodiff: { folders: ['ir', 'ops'] },
  passes: { folders: ['ir', 'ops'] },
  optim: { folders: ['ir', 'ops'] },
  onnx: { folders: ['ir', 'ops'], packages: ['@bufbuild/protobuf'] },
  runtime: {
    folders: ['ir', 'onnx'], packages: ['onnxruntime-common', 'onnxruntime-node'], node: /^(node\.ts|devices\.ts|(worker|probe)\.js)$/,
  },
  nn: { folders: ['formats', 'ir', 'ops'] },
  models: { folders: ['ir', 'nn', 'onnx'], packages: ['zod'] },
  peft: { folders: ['formats', 'ir', 'nn'], packages: ['zod'] },
  data: {
    folders: ['formats'], packages: ['@huggingface/tokenizers', 'hyparquet', 'hyparquet-compressors', 'sharp', 'yaml', 'zod'],
    node: /^/,
  },
  tasks: { folders: ['data', 'ir', 'nn'], packages: ['porter2'] },
  hub: { folders: ['formats', 'onnx'], packages: ['@huggingface/hub'], node: /^/ },
  // what runs in a page too (compile, fit, select, …) stays free of Node
  trainer: {
    folders: [...compute, 'formats', 'data', 'tasks', 'hub'], packages: ['zod'],
    node: /^(run.*|train|describe|parity|pictures|encode|classes|language\/(prepare|run|train))\.ts$/,
  },
  export: {
    folders: [...compute, 'formats', 'data', 'trainer'], packages: ['@bufbuild/protobuf'], node: /^run\.ts$/,
  },
  // the one place where training and models meet
  pipeline: {
    folders: ['data', 'export', 'formats', 'hub', 'models', 'nn', 'peft', 'trainer'], node: /^(backbone|merge|text-model)\.ts$/,
  },
  cli: { ...surface, folders: ['index', 'server'] },
  server: { folders: ['index'], packages: ['@fastify/multipart', 'fastify', 'prom-client'], node: /^/ },
};
/** The public entry re-exports from anywhere but the two that stand on it. */
const entry: Rule = { folders: Object.keys(layout).filter((f) => f !== 'cli' && f !== 'server') };

/** Content by path below `src`. */
type Sources = ReadonlyMap<string, string>;

const folderOf = (path: string): string => (path.includes('/') ? path.split('/')[0]! : path.replace(/\.(ts|js)$/, ''));

/** Every import of every file: static, re-exported, dynamic or of a type. */
function imports(sources: Sources): { file: string; to: string }[] {
  return [...sources].flatMap(([file, text]) =>
    ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => ({ file, to: fileName })));
}

/** What breaks a rule, one line each. */
function violations(sources: Sources): string[] {
  const found: string[] = [];
  const edges = new Map<string, Set<string>>();
  const ruleOf = (folder: string): Rule | undefined => (folder === 'index' ? entry : layout[folder]);
  for (const folder of new Set([...sources.keys()].map(folderOf))) {
    if (!ruleOf(folder)) found.push(`${folder}: not in the table of folders`);
  }
  for (const { file, to } of imports(sources)) {
    const from = folderOf(file);
    const rule = ruleOf(from);
    if (!rule) continue;
    if (to.startsWith('.')) {
      const target = posix.join(posix.dirname(file), to);
      const folder = folderOf(target);
      if (target.startsWith('..')) found.push(`${file}: ${to} lies outside of src`);
      else if (folder !== from) {
        edges.set(from, (edges.get(from) ?? new Set()).add(folder));
        const allowed = folder === 'util' || rule.folders?.includes(folder);
        if (!allowed) found.push(`${file}: ${from} may not import ${folder} (${to})`);
      }
    } else if (isBuiltin(to)) {
      const inside = file.slice(from.length + 1);
      if (!to.startsWith('node:')) found.push(`${file}: ${to} is to be written node:${to}`);
      if (!rule.node?.test(inside)) found.push(`${file}: ${to} may not be used here`);
    } else {
      const name = to.split('/').slice(0, to.startsWith('@') ? 2 : 1).join('/');
      if (!rule.packages?.includes(name)) found.push(`${file}: ${from} may not import the package ${name}`);
    }
  }
  const cycle = findCycle(edges);
  return cycle ? [...found, `cycle: ${cycle.join(' → ')}`] : found;
}

function findCycle(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] | undefined {
  const done = new Set<string>();
  const visit = (folder: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(folder)) return [...path.slice(path.indexOf(folder)), folder];
    if (done.has(folder)) return undefined;
    for (const next of edges.get(folder) ?? []) {
      const cycle = visit(next, [...path, folder]);
      if (cycle) return cycle;
    }
    done.add(folder);
    return undefined;
  };
  for (const folder of edges.keys()) {
    const cycle = visit(folder, []);
    if (cycle) return cycle;
  }
  return undefined;
}

async function readSources(): Promise<Sources> {
  const root = fileURLToPath(new URL('../src/', import.meta.url));
  const files = (await readdir(root, { recursive: true })).map((f) => f.replaceAll('\\', '/'))
    .filter((f) => /\.(ts|js)$/.test(f) && !/\.test\.ts$|(^|\/)testing\//.test(f)).sort();
  return new Map(await Promise.all(files.map(async (f) => [f, await readFile(root + f, 'utf8')] as const)));
}

test('every import of the package follows the table', async () => {
  const sources = await readSources();
  expect(sources.size).toBeGreaterThan(50);
  // the parser sees what is there: these edges exist
  const seen = imports(sources).map(({ file, to }) => `${file} ${to}`);
  expect(seen).toContain('ops/build.ts ../ir/graph.js');
  expect(seen).toContain('runtime/worker.js onnxruntime-node');
  expect(seen).toContain('nn/functional.ts ../ops/build.js');
  expect(violations(sources)).toEqual([]);
});

describe('the check itself finds', () => {
  const of = (files: Record<string, string>): string[] => violations(new Map(Object.entries(files)));

  test('nothing in what is allowed', () => {
    expect(of({
      'ops/add.ts': "import { Graph } from '../ir/graph.js';\nimport { assert } from '../util/errors.js';",
      'cli/commands/train.ts': "import { train } from '../../index.js';\nimport '../text.js';\nimport 'node:fs';",
      'formats/x-node.ts': "import { open } from 'node:fs/promises';",
      'peft/lora/index.ts': "import { z } from 'zod';\nimport { method } from '../registry.js';",
      'onnx/generated/pb.ts': "import type { Message } from '@bufbuild/protobuf/codegenv2';",
      'index.ts': "export * from './ops/add.js';",
    })).toEqual([]);
  });

  test.each([
    ['ops/a.ts', "import { encode } from '../onnx/encode.js';",
      'ops/a.ts: ops may not import onnx (../onnx/encode.js)'],
    ['ir/a.ts', "import type { OpDef } from '../ops/def.js';", 'ir/a.ts: ir may not import ops'],
    ['peft/lora/a.ts', "export { Clip } from '../../models/clip/model.js';", 'peft may not import models'],
    ['nn/a.ts', "const x = await import('../autodiff/grad.js');", 'nn may not import autodiff'],
    ['cli/a.ts', "import { fit } from '../trainer/fit.js';", 'cli may not import trainer'],
    ['trainer/a.ts', "import { main } from '../cli/main.js';", 'trainer may not import cli'],
    ['trainer/a.ts', "import { train } from '../index.js';", 'trainer may not import index'],
    ['trainer/a.ts', "import { Clip } from '../models/clip/model.js';", 'trainer may not import models'],
    ['trainer/a.ts', "import { train } from '../pipeline/index.js';", 'trainer may not import pipeline'],
    ['index.ts', "export * from './cli/main.js';", 'index may not import cli'],
    ['helpers/a.ts', '', 'helpers: not in the table of folders'],
    ['ops/a.ts', "import { readFile } from 'node:fs';", 'ops/a.ts: node:fs may not be used here'],
    ['runtime/web.ts', "import 'node:worker_threads';", 'runtime/web.ts: node:worker_threads may not be used here'],
    ['formats/npy.ts', "import 'node:fs';", 'formats/npy.ts: node:fs may not be used here'],
    ['data/a.ts', "import 'fs';", 'is to be written node:fs'],
    ['ops/a.ts', "import { z } from 'zod';", 'ops may not import the package zod'],
    ['util/a.ts', "import '../../../../tools/x.js';", 'lies outside of src'],
  ])('in %s: %s', (file, text, message) => {
    const found = of({ [file]: text });
    expect(found.length).toBe(1);
    expect(found[0]).toContain(message);
  });

  test('cycles between folders, however long', () => {
    expect(of({
      'data/a.ts': "import '../formats/b.js';", 'formats/b.ts': "import '../util/c.js';",
      'util/c.ts': "import '../data/a.js';",
    })).toContain('cycle: data → formats → util → data');
  });
});
