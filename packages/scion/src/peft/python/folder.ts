/** Folders of adapters as Python's PEFT saves and loads them: adapter_config.json and adapter_model.safetensors. */
import { readBytes, withFile, writeAtomically } from '../../formats/files.js';
import { makeWholeFolder } from '../../formats/folder.js';
import { parseStrictJson } from '../../formats/json.js';
import { readSafetensors, writeSafetensors } from '../../formats/safetensors-node.js';
import { readTorchArchive, readTorchTensors } from '../../formats/torch-archive-node.js';
import { ScionError, inputError, usageError } from '../../util/errors.js';
import type { Tensor } from '../../util/tensor.js';
import { type PeftConfig, parsePeftConfig } from './config.js';
import type { PeftAdapter } from './keys.js';

const configFile = 'adapter_config.json';
const weightsFile = 'adapter_model.safetensors';
/** What PEFT wrote before safetensors: read as data, nothing in it is run. */
const torchFile = 'adapter_model.bin';
const most = 2 ** 20;

/**
 * Reads a folder that `save_pretrained` of Python's PEFT wrote.
 * @returns the settings, and the tensors by PEFT's keys, as they are stored
 * @throws ScionError: `io` where a file cannot be read, `input` for damaged files and options that Scion does not have
 */
export async function readPeftAdapter(folder: string): Promise<PeftConfig & { tensors: ReadonlyMap<string, Tensor> }> {
  const path = `${folder}/${configFile}`;
  const bytes = await readBytes(path, most);
  const config = parsePeftConfig(parseStrictJson(bytes, path, 'file', 'get it again'), path);
  return { ...config, tensors: await readWeights(folder) };
}

async function readWeights(folder: string): Promise<ReadonlyMap<string, Tensor>> {
  try {
    return (await readSafetensors(`${folder}/${weightsFile}`)).tensors;
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return readTorchWeights(`${folder}/${torchFile}`).catch((older: unknown) => {
      throw isAbsent(older) ? error : older; // the newer name is the one to report
    });
  }
}

async function readTorchWeights(path: string): Promise<ReadonlyMap<string, Tensor>> {
  const archive = await readTorchArchive(path);
  // tensors may share their bytes in the file, as PEFT's three names of one bias do, but not in memory
  const claimed = [...archive.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const bytes = await withFile(path, (_, size) => Promise.resolve(size));
  if (claimed > 4 * bytes) {
    throw inputError(path, `its tensors have ${claimed} bytes, expected at most four times the ${bytes} of the file; save it `
      + 'again with safe_serialization=True');
  }
  return readTorchTensors(archive, archive.tensors.keys());
}

function isAbsent(error: unknown): boolean {
  return error instanceof ScionError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}

/**
 * Writes a folder that `PeftModel.from_pretrained` loads. It appears whole; an empty folder in its place is replaced.
 * @throws ScionError: `io` where the system refuses, `usage` for a folder with content
 */
export async function writePeftAdapter(folder: string, { config, tensors }: PeftAdapter): Promise<void> {
  const say = {
    what: 'the adapter',
    occupied: (path: string) => usageError('folder', `${path} is not empty; choose another folder for the adapter`),
  };
  await makeWholeFolder(folder, say, async (draft) => {
    await writeSafetensors(`${draft}/${weightsFile}`, tensors, { format: 'pt' });
    await writeAtomically(`${draft}/${configFile}`, [new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`)]);
  });
}
