/**
 * The directory of a zip archive: names and places of its entries, nothing decompressed. Needs no file system.
 *
 * An archive is input from outside: entries must lie inside the file, before the directory, and apart from one another.
 * Checksums are not compared: PyTorch can be told to leave them out, and tensors are never read as a whole here.
 */
import { inputError } from '../util/errors.js';
import { brief } from './json.js';

/** An entry as the directory has it. Offsets count from the start of the file. */
export interface ZipEntry {
  readonly name: string;
  /** 0 is stored, 8 is deflated. */
  readonly method: number;
  readonly compressedBytes: number;
  readonly byteLength: number;
  /** Where the entry's own header begins. */
  readonly headerOffset: number;
  /** Where the next entry, or the directory, begins. */
  readonly limit: number;
}

/** Where the directory lies. */
export interface ZipDirectory {
  readonly offset: number;
  readonly byteLength: number;
  readonly entries: number;
}

const endBytes = 22;
const end64Bytes = 56;
const locatorBytes = 20;
const entryBytes = 46;
const localBytes = 30;
const maxDirectoryBytes = 2 ** 24;
const fix = 'the file is cut short or damaged: get it again';

/** How many bytes from the end of the file `findZipDirectory` wants to see: a comment has at most 65535. */
export const zipTailBytes = endBytes + 65535 + locatorBytes + end64Bytes;

/** Whether a file that starts with these bytes is a zip archive. */
export function isZip(head: Uint8Array): boolean {
  return head.byteLength >= 4 && viewOf(head).getUint32(0, true) === 0x04034b50;
}

/**
 * Finds the directory.
 * @param tail the last `zipTailBytes` of the file, or all of it
 * @throws ScionError of kind `input`
 */
export function findZipDirectory(tail: Uint8Array, fileBytes: number, where: string): ZipDirectory {
  const view = viewOf(tail);
  const tailOffset = fileBytes - tail.byteLength;
  let end = tail.byteLength - endBytes;
  const isEnd = (at: number): boolean =>
    view.getUint32(at, true) === 0x06054b50 && at + endBytes + view.getUint16(at + 20, true) === tail.byteLength;
  while (end >= 0 && !isEnd(end)) end--;
  if (end < 0) throw inputError(where, `the zip archive has no end record; ${fix}`);

  const locator = end - locatorBytes;
  const is64 = locator >= 0 && view.getUint32(locator, true) === 0x07064b50;
  const disks = is64
    ? [view.getUint32(locator + 4, true), view.getUint32(locator + 16, true) - 1]
    : [view.getUint16(end + 4, true), view.getUint16(end + 6, true)];
  if (disks.some((disk) => disk !== 0)) {
    throw inputError(where, 'the zip archive is split over several files, expected one; join them');
  }
  const record = is64 ? locator - end64Bytes : end;
  if (is64 && (record < 0 || view.getUint32(record, true) !== 0x06064b50
    || safe(view, locator + 8) !== tailOffset + record)) {
    throw inputError(where, `the zip64 end record is not before its locator; ${fix}`);
  }
  const directory = is64
    ? { entries: safe(view, record + 32), byteLength: safe(view, record + 40), offset: safe(view, record + 48) }
    : {
      entries: view.getUint16(end + 10, true),
      byteLength: view.getUint32(end + 12, true),
      offset: view.getUint32(end + 16, true),
    };
  const { offset, byteLength, entries } = directory;
  if (offset + byteLength !== tailOffset + record) {
    const claim = `claims bytes ${offset} to ${offset + byteLength}`;
    throw inputError(where, `the zip directory ${claim}, expected its end at ${tailOffset + record}; ${fix}`);
  }
  if (byteLength > maxDirectoryBytes || entries * entryBytes > byteLength) {
    const limit = `at most ${maxDirectoryBytes} bytes and ${entryBytes} an entry`;
    const claim = `has ${entries} entries in ${byteLength} bytes`;
    throw inputError(where, `the zip directory ${claim}, expected ${limit}; ${fix}`);
  }
  return directory;
}

/**
 * The entries by name.
 * @param bytes the directory's bytes
 * @throws ScionError of kind `input` that names the entry
 */
export function parseZipDirectory(bytes: Uint8Array, directory: ZipDirectory, where: string): Map<string, ZipEntry> {
  const entries: ZipEntry[] = [];
  for (let at = 0, i = 0; i < directory.entries; i++) {
    const [entry, next] = parseEntry(bytes, at, directory, where);
    entries.push(entry);
    at = next;
  }
  entries.sort((a, b) => a.headerOffset - b.headerOffset);
  const out = new Map<string, ZipEntry>();
  entries.forEach((entry, i) => {
    const limit = entries[i + 1]?.headerOffset ?? directory.offset;
    const room = limit - entry.headerOffset - localBytes;
    if (entry.compressedBytes > room) {
      const claim = `claims ${entry.compressedBytes} bytes where ${Math.max(0, room)} are left`;
      throw inputError(where, `${nameOf(entry)} ${claim} before what follows it; ${fix}`);
    }
    if (out.has(entry.name)) throw inputError(where, `${nameOf(entry)} is there twice, expected once; ${fix}`);
    out.set(entry.name, { ...entry, limit });
  });
  return out;
}

function parseEntry(bytes: Uint8Array, at: number, directory: ZipDirectory, where: string): [ZipEntry, number] {
  const view = viewOf(bytes);
  if (at + entryBytes > bytes.byteLength || view.getUint32(at, true) !== 0x02014b50) {
    throw inputError(where, `the zip directory breaks off at byte ${at}; ${fix}`);
  }
  const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
  const nameEnd = at + entryBytes + view.getUint16(at + 28, true);
  const extraEnd = nameEnd + view.getUint16(at + 30, true);
  const next = extraEnd + view.getUint16(at + 32, true);
  if (next > bytes.byteLength) throw inputError(where, `the zip directory breaks off at byte ${at}; ${fix}`);
  const name = entryName(bytes.subarray(at + entryBytes, nameEnd), where);
  const [byteLength, compressedBytes, headerOffset, disk] = wide(view, nameEnd, extraEnd, [
    view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true),
  ], view.getUint16(at + 34, true));
  const entry = { name, method, byteLength, compressedBytes, headerOffset, limit: directory.offset };
  if (flags & 0x2041) throw inputError(where, `${nameOf(entry)} is encrypted, expected plain data; decrypt the file`);
  if (disk !== 0) throw inputError(where, `${nameOf(entry)} lies in another file of a split archive; join them`);
  if (headerOffset + localBytes > directory.offset) {
    throw inputError(where, `${nameOf(entry)} begins at byte ${headerOffset}, expected before the directory; ${fix}`);
  }
  if (method === 0 && byteLength !== compressedBytes) {
    const sizes = `${byteLength} bytes stored in ${compressedBytes}`;
    throw inputError(where, `${nameOf(entry)} has ${sizes}, expected as many; ${fix}`);
  }
  return [entry, next];
}

/** Sizes and offset, from the zip64 field where 32 bits are too few; Infinity, which fits nowhere, if that is short. */
function wide(
  view: DataView, at: number, end: number, narrow: [number, number, number], disk: number,
): [number, number, number, number] {
  let [field, fieldEnd] = [end, end];
  for (let i = at; i + 4 <= end; i += 4 + view.getUint16(i + 2, true)) {
    if (view.getUint16(i, true) === 1) [field, fieldEnd] = [i + 4, Math.min(end, i + 4 + view.getUint16(i + 2, true))];
  }
  const take = (value: number): number => {
    if (value !== 0xffffffff) return value;
    field += 8;
    return field <= fieldEnd ? safe(view, field - 8) : Infinity;
  };
  return [take(narrow[0]), take(narrow[1]), take(narrow[2]), disk];
}

/** Names are never used as paths, but one that tries to be a strange path has no business here. */
function entryName(bytes: Uint8Array, where: string): string {
  let name = '';
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch { /* left empty, which is refused below */ }
  if (name === '' || /[\u0000-\u001f\u007f\\:]|^\/|\/\/|(^|\/)\.\.?(\/|$)/.test(name)) {
    throw inputError(where, `the zip archive has an entry with the name ${brief(name)}, expected a plain one; ${fix}`);
  }
  return name;
}

/** Bytes of the entry's own header that `storedDataOffset` wants to see. */
export function localHeaderBytes(entry: ZipEntry): number {
  return Math.min(localBytes + new TextEncoder().encode(entry.name).byteLength, entry.limit - entry.headerOffset);
}

/**
 * Where the data of a stored entry begin.
 * @param header the first `localHeaderBytes` at the entry's `headerOffset`
 * @throws ScionError of kind `input` for a compressed entry and where the header contradicts the directory
 */
export function storedDataOffset(header: Uint8Array, entry: ZipEntry, where: string): number {
  if (entry.method !== 0) {
    throw inputError(where, `${nameOf(entry)} is compressed, expected stored as PyTorch writes it; save it again`);
  }
  const view = viewOf(header);
  const name = new TextEncoder().encode(entry.name);
  const fits = header.byteLength === localBytes + name.byteLength && isZip(header)
    && view.getUint16(8, true) === 0 && view.getUint16(26, true) === name.byteLength
    && name.every((byte, i) => header[localBytes + i] === byte)
    // zero if the sizes follow the data, all ones if they are in a zip64 field
    && [18, 22].every((at) => [0, 0xffffffff, entry.byteLength].includes(view.getUint32(at, true)));
  const offset = fits ? entry.headerOffset + header.byteLength + view.getUint16(28, true) : Infinity;
  if (offset + entry.byteLength > entry.limit) {
    throw inputError(where, `${nameOf(entry)} is not what the zip directory says of it; ${fix}`);
  }
  return offset;
}

function nameOf(entry: Pick<ZipEntry, 'name'>): string {
  return `zip entry ${brief(entry.name)}`;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit number; Infinity beyond 2^53, so that no sum with it can pass for a place in the file. */
function safe(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Infinity;
}
