/** Pictures in Parquet files, read lazily: the row groups used last are kept, up to a number of bytes. */
import { isObject } from '../formats/json.js';
import { inputError } from '../util/errors.js';
import type { ParquetCell } from './image-ref.js';
import { openParquet } from './parquet.js';
import type { ParquetFile, RowGroup } from './parquet.js';

/** Bytes of pictures that are kept beside the group that was read last. */
const keptBytes = 256 * 2 ** 20;
const keptFiles = 64;

interface Kept {
  readonly cells: Promise<(Uint8Array | undefined)[]>;
  bytes: number;
}

const files = new Map<string, Promise<ParquetFile>>();
const groups = new Map<string, Kept>();

/** The bytes of a cell. @throws ScionError that names the file and the row */
export async function readParquetImage(path: string, { column, row }: ParquetCell): Promise<Uint8Array> {
  const file = await used(files, path, () => openParquet(path));
  const group = file.groups.find(({ start, rows }) => row >= start && row < start + rows);
  if (!group) throw inputError(`${path}: row ${row}`, `is not there, the file has ${file.rows} rows; `
    + 'it has changed: run again');
  const kept = used(groups, JSON.stringify([path, column, group.start]), () => {
    const entry: Kept = { bytes: 0, cells: read(file, column, group).then((cells) => {
      entry.bytes = cells.reduce((sum, cell) => sum + (cell?.byteLength ?? 0), 0);
      drop();
      return cells;
    }) };
    return entry;
  });
  const bytes = (await kept.cells)[row - group.start];
  if (bytes) return bytes;
  throw inputError(`${path}: row ${row}`, `has no bytes in the column ${column}, expected a picture; `
    + 'remove the row or fill it');
}

async function read(file: ParquetFile, column: string, group: RowGroup): Promise<(Uint8Array | undefined)[]> {
  const rows = await file.read([column], group);
  return rows.map((row) => {
    const value = row[column];
    const bytes = isObject(value) && 'bytes' in value ? value.bytes : value;
    return bytes instanceof Uint8Array && bytes.byteLength > 0 ? bytes : undefined;
  });
}

/** Forgets what was used longest ago. */
function drop(): void {
  let bytes = [...groups.values()].reduce((sum, entry) => sum + entry.bytes, 0);
  for (const [key, entry] of groups) {
    if (bytes <= keptBytes || groups.size === 1) break;
    groups.delete(key);
    bytes -= entry.bytes;
  }
  for (const key of [...files.keys()].slice(0, Math.max(0, files.size - keptFiles))) files.delete(key);
}

/** The value of a key, moved to the end of the map; what fails is forgotten, so that it is tried again. */
function used<T extends Kept | Promise<ParquetFile>>(map: Map<string, T>, key: string, make: () => T): T {
  const value = map.get(key) ?? make();
  map.delete(key);
  map.set(key, value);
  const work: Promise<unknown> = value instanceof Promise ? value : value.cells;
  work.catch(() => map.delete(key));
  return value;
}
