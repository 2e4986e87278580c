/** A temporary folder that tests fill with files. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { expect } from 'vitest';
import { ScionError } from '../../util/errors.js';

export type Content = string | Uint8Array | object;

export class TestFolder {
  private constructor(readonly path: string) {}

  static async make(): Promise<TestFolder> {
    return new TestFolder(await mkdtemp(join(tmpdir(), 'scion-data-')));
  }

  /** Removes all and writes these; what is no text or bytes becomes JSON. */
  async fill(files: Readonly<Record<string, Content>>): Promise<void> {
    await this.remove();
    for (const [name, content] of Object.entries(files)) {
      const path = join(this.path, name);
      await mkdir(dirname(path), { recursive: true });
      const whole = typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content);
      await writeFile(path, whole);
    }
  }

  /** The message of the error, with paths from the folder. */
  async refused(work: Promise<unknown>): Promise<string> {
    const error: unknown = await work.catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ScionError);
    return (error as ScionError).message.replaceAll(`${this.path}/`, '').replaceAll(this.path, '.');
  }

  short(path: string): string {
    return relative(this.path, path);
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

type Written = Omit<Parameters<typeof parquetWriteBuffer>[0], 'columnData'>;

/**
 * A Parquet file with a column `image` as Hugging Face's datasets write it, a struct of bytes and path, and others.
 * @param images `null` for a row without bytes
 */
export function parquetWithImages(
  images: readonly (Uint8Array | null)[], columns: Readonly<Record<string, readonly unknown[]>>, options: Written = {},
): Uint8Array {
  const others = Object.entries(columns).map(([name, data]) => ({ name, data: [...data] }));
  const image = images.map((bytes, i) => ({ bytes, path: `${i}.png` }));
  return new Uint8Array(parquetWriteBuffer({
    columnData: [{ name: 'image', data: image }, ...others],
    ...options,
    schema: [
      { name: 'root', num_children: 1 + others.length },
      { name: 'image', num_children: 2, repetition_type: 'OPTIONAL' },
      { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
      { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      ...others.flatMap(({ name, data }) => schemaOf(name, data.find((x) => x !== null))),
    ],
  }));
}

type Schema = NonNullable<Parameters<typeof parquetWriteBuffer>[0]['schema']>;

function schemaOf(name: string, value: unknown): Schema {
  const leaf = { name, repetition_type: 'OPTIONAL' } as const;
  if (typeof value === 'number') return [{ ...leaf, type: 'INT32' }];
  if (typeof value === 'string') return [{ ...leaf, type: 'BYTE_ARRAY', converted_type: 'UTF8' }];
  if (Array.isArray(value)) {
    return [{ ...leaf, converted_type: 'LIST', num_children: 1 }, { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      ...schemaOf('element', value[0])];
  }
  const members = Object.entries(value as object);
  return [{ ...leaf, num_children: members.length }, ...members.flatMap(([key, x]) => schemaOf(key, x))];
}
