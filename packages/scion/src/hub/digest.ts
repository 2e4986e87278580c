/** What a model is, in one number: the SHA-256 of its files. Large files are hashed once and remembered. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256, systemError, writeAtomically } from '../formats/files.js';
import type { CheckpointFiles } from './checkpoint.js';

/** Beside the weights, what decides over the features of a text. */
const small = ['config.json', 'tokenizer.json', 'tokenizer_config.json'];

/**
 * The digest of a checkpoint's weights, configuration and tokenizer, in hexadecimal.
 * @param folder of the checkpoint
 * @param memory where the digests of files are remembered by path, size and time of change; nowhere where absent
 */
export async function checkpointDigest(
  { tensors, onnx }: CheckpointFiles,
  folder: string,
  memory: string | undefined,
): Promise<string> {
  const weights = [...new Set([...[...tensors.values()].map(({ path }) => path), ...(onnx?.files ?? [])])];
  const hash = createHash('sha256');
  // weights by content alone, in the order of their names: a copy elsewhere is the same model
  for (const file of weights.sort()) hash.update(await remembered(file, memory));
  for (const name of small) {
    const file = join(folder, name);
    hash.update(`\n${name} ${existsSync(file) ? await sha256(file) : 'none'}`);
  }
  return hash.digest('hex');
}

async function remembered(file: string, memory: string | undefined): Promise<string> {
  if (memory === undefined) return sha256(file);
  const path = await realpath(file);
  const { size, mtimeMs } = await stat(path).catch((cause: unknown) => {
    throw systemError(file, 'read it', cause);
  });
  const name = createHash('sha256')
    .update(JSON.stringify([path, size, mtimeMs]))
    .digest('hex');
  const note = join(memory, name);
  const known = await readFile(note, 'utf8').catch(() => '');
  if (/^[0-9a-f]{64}$/.test(known)) return known;
  const digest = await sha256(file);
  // a memory that cannot be written costs time and nothing else
  await mkdir(memory, { recursive: true })
    .then(() => writeAtomically(note, [new TextEncoder().encode(digest)]))
    .catch(() => undefined);
  return digest;
}
