/** Tests neither see the user's cache nor leave anything in it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'scion-cache-'));
  process.env.SCION_CACHE = folder;
  return () => rm(folder, { recursive: true, force: true });
}
