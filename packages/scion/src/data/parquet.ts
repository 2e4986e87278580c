/** Parquet files, read by row group with hyparquet. Whatever a file claims is held against its size. */
import { parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import type { AsyncBuffer, Compressors, FileMetaData, SchemaTree } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { readRange, withFile } from '../formats/files.js';
import { inputError, ScionError } from '../util/errors.js';

export interface RowGroup {
  /** Its first row. */
  readonly start: number;
  readonly rows: number;
}

export interface ParquetFile {
  readonly path: string;
  readonly rows: number;
  readonly groups: readonly RowGroup[];
  readonly columns: readonly ParquetColumn[];
  /** The rows of a group, each an object of these columns. Bytes that are no text come as Uint8Array. */
  read(columns: readonly string[], group: RowGroup): Promise<Record<string, unknown>[]>;
}

export interface ParquetColumn {
  readonly name: string;
  /** Of a struct: the names of its members. */
  readonly members: readonly string[];
  /** Whether it is, or has a member, of bytes that are no text. */
  readonly bytes: boolean;
}

/** The largest page, unpacked: pages of pictures are a few MB, and a page is one value at least. */
const maxPageBytes = 2 ** 30;

/** Opens a file; what it says of itself is read, none of its rows. @throws ScionError for what is no Parquet file */
export async function openParquet(path: string): Promise<ParquetFile> {
  const byteLength = await withFile(path, (_, bytes) => Promise.resolve(bytes));
  const file: AsyncBuffer = {
    byteLength,
    async slice(start, end = byteLength) {
      if (start < 0 || end > byteLength || start > end) {
        throw inputError(path, `names bytes ${start} to ${end} of ${byteLength}; it is damaged: get it again`);
      }
      const bytes = await readRange({ path, offset: start, byteLength: end - start });
      return bytes.buffer as ArrayBuffer;
    },
  };
  const metadata = await named(path, async () => {
    if (byteLength < 12) throw new Error(`it has ${byteLength} bytes`);
    return parquetMetadataAsync(file, { geoparquet: false });
  });
  const groups = groupsOf(path, metadata, byteLength);
  return {
    path,
    rows: groups.reduce((sum, { rows }) => sum + rows, 0),
    groups,
    columns: await named(path, () => Promise.resolve(parquetSchema(metadata).children.map(columnOf))),
    read: (columns, { start, rows }) => named(path, () => parquetReadObjects({
      file, metadata, columns: [...columns], rowStart: start, rowEnd: start + rows, compressors: bounded(path), utf8: false,
      geoparquet: false,
    })),
  };
}

function groupsOf(path: string, metadata: FileMetaData, byteLength: number): RowGroup[] {
  let start = 0;
  return metadata.row_groups.map((group) => {
    const rows = Number(group.num_rows);
    // rows of data sets have an id, a text or a picture, so that each takes a byte at least
    if (!(rows >= 0) || start + rows > byteLength) {
      throw inputError(path, `claims ${start + rows} rows in ${byteLength} bytes; it is damaged: get it again`);
    }
    start += rows;
    return { start: start - rows, rows };
  });
}

function columnOf({ element, children }: SchemaTree): ParquetColumn {
  const isBytes = ({ element: e }: SchemaTree): boolean =>
    e.type === 'BYTE_ARRAY' && e.converted_type === undefined && e.logical_type === undefined;
  return {
    name: element.name,
    members: children.map((child) => child.element.name),
    bytes: isBytes({ element, children } as SchemaTree) || children.some(isBytes),
  };
}

/** Decompression that takes no memory for what a page only claims to hold. */
function bounded(path: string): Compressors {
  return Object.fromEntries(Object.entries(compressors).map(([codec, unpack]) => [codec,
    (input: Uint8Array, length: number) => {
      if (length > maxPageBytes) {
        throw inputError(path, `has a page of ${length} bytes, expected at most ${maxPageBytes}; `
          + 'write it with smaller pages');
      }
      return unpack(input, length);
    }]));
}

/** Errors of the library name no file. */
async function named<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ScionError) throw cause;
    const reason = cause instanceof Error ? cause.message.split('\n')[0]!.slice(0, 160) : 'unreadable';
    throw inputError(path, `cannot be read as Parquet (${reason}); it is damaged or another kind of file: get it again`, { cause });
  }
}
