/** Tests neither see the user's caches nor leave anything in them, and ask no hub but their own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'scion-cache-'));
  process.env.SCION_CACHE = folder;
  process.env.HF_HOME = join(folder, 'huggingface');
  process.env.HF_HUB_OFFLINE = '1';
  delete process.env.HF_HUB_CACHE;
  return () => rm(folder, { recursive: true, force: true });
}
