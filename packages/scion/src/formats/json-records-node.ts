/** JSON files of any size (Node), read record by record: the whole text is never in memory. */
import { inputError } from '../util/errors.js';
import { withFile } from './files.js';

/** A part of a JSON file: a member of its object, or an element of a list that is such a member or the whole file. */
export interface JsonRecord {
  /** The member; `''` where the whole file is a list. */
  readonly key: string;
  /** Place in the list; absent for a member that is no list. */
  readonly index?: number;
  readonly value: unknown;
}

/** The longest record, in bytes: what is longer is no record of a data set. */
const maxRecordBytes = 64 * 2 ** 20;
const chunkBytes = 2 ** 20;
const [quote, backslash, comma] = [34, 92, 44];
const opening = new Map([[123, 125], [91, 93]]); // { } [ ]
const closing = new Set(opening.values());

/**
 * Hands over the members of the file's object one by one, and of members that are lists each element: of
 * `{"info": {…}, "questions": [{…}, …]}` info, and every question.
 * @throws ScionError: `input` for what is not JSON, or neither an object nor a list, `io` where the system refuses
 */
export async function readJsonRecords(path: string, take: (record: JsonRecord) => void): Promise<void> {
  const splitter = new Splitter(path, take);
  await withFile(path, async (file) => {
    for await (const chunk of file.createReadStream({ autoClose: false, highWaterMark: chunkBytes })) {
      splitter.add(chunk as Buffer);
    }
  });
  splitter.end();
}

/** Finds where records begin and end; what is within them is left to `JSON.parse`. */
class Splitter {
  /** The closing brackets of what is open. */
  private readonly open: number[] = [];
  private text = false;
  private escaped = false;
  /** The bytes of the record so far, from chunks before. */
  private parts: Buffer[] = [];
  private partBytes = 0;
  private key = '';
  private index = 0;
  /** Members that are lists, to refuse one that comes twice. */
  private readonly lists = new Set<string>();
  private done = false;

  constructor(private readonly path: string, private readonly take: (record: JsonRecord) => void) {}

  /** Whether records are elements of a list; otherwise they are members of the object. */
  private get inList(): boolean {
    return this.open.at(-1) === 93;
  }

  /** How many brackets are open around a record. */
  private get recordDepth(): number {
    return this.list ? 2 : 1;
  }
  /** Whether the list of a member is being read. */
  private list = false;

  add(chunk: Buffer): void {
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (this.text) {
        if (this.escaped) this.escaped = false;
        else if (byte === backslash) this.escaped = true;
        else if (byte === quote) this.text = false;
        continue;
      }
      if (byte === quote) {
        this.text = true;
      } else if (byte === comma) {
        if (this.open.length !== this.recordDepth) continue;
        this.record(this.cut(chunk, start, i), false);
        start = i + 1;
      } else if (opening.has(byte)) {
        const depth = this.open.length;
        const whole = depth === 0;
        const member = depth === 1 && byte === 91 && this.open[0] === 125;
        this.open.push(opening.get(byte)!);
        if (!whole && !member) continue;
        const before = this.cut(chunk, start, i);
        start = i + 1;
        if (whole) this.begin(before);
        else this.beginList(before);
      } else if (closing.has(byte)) {
        if (this.open.length === this.recordDepth) {
          this.record(this.cut(chunk, start, i), true);
          start = i + 1;
          if (this.open.length === 2) {
            this.list = false;
            this.afterList = true;
          } else this.done = true;
        }
        if (this.open.pop() !== byte) this.fail('a bracket closes what was not opened');
      }
    }
    this.keep(chunk.subarray(start));
  }
  /** Whether the next member follows a list, so that nothing may stand before the comma. */
  private afterList = false;

  end(): void {
    const nothing = this.partBytes === 0 && this.open.length === 0;
    if (!this.done) this.fail(nothing ? 'it is empty' : 'it ends too early: cut short');
    if (this.decode(this.cut(Buffer.alloc(0), 0, 0)).trim() !== '') this.fail('something follows its end');
  }

  private begin(before: Buffer): void {
    if (this.done || this.decode(before).trim() !== '') this.fail('it is neither one object nor one list');
    this.index = 0;
  }

  private beginList(before: Buffer): void {
    const header = /^\s*("[^]*")\s*:\s*$/.exec(this.decode(before));
    if (!header) this.fail('a list stands where a key was expected');
    this.key = this.parse(header[1]!, 'a key') as string;
    if (this.lists.has(this.key)) this.fail(`it has the key ${JSON.stringify(this.key)} twice`);
    this.lists.add(this.key);
    this.list = true;
    this.index = 0;
  }

  private record(bytes: Buffer, last: boolean): void {
    const text = this.decode(bytes);
    if (text.trim() === '') {
      if (this.afterList) this.afterList = false;
      else if (!last || this.index > 0) this.fail(`nothing stands beside a comma near ${this.where()}`);
      return;
    }
    if (this.afterList) this.fail('something follows a list without a comma');
    if (this.inList) {
      this.take({ key: this.list ? this.key : '', index: this.index, value: this.parse(text, this.where()) });
    } else {
      const member = this.parse(`{${text}}`, `a member near ${this.where()}`) as Record<string, unknown>;
      for (const [key, value] of Object.entries(member)) this.take({ key, value });
    }
    this.index++;
  }

  private where(): string {
    return this.list ? `${this.key}: ${this.index}` : `number ${this.index}`;
  }

  private cut(chunk: Buffer, start: number, end: number): Buffer {
    const last = chunk.subarray(start, end);
    const whole = this.parts.length === 0 ? last : Buffer.concat([...this.parts, last]);
    this.parts = [];
    this.partBytes = 0;
    return whole;
  }

  private keep(part: Buffer): void {
    this.parts.push(Buffer.from(part)); // the stream may use its memory again
    this.partBytes += part.length;
    if (this.partBytes > maxRecordBytes) this.fail(`${this.where()} has more than ${maxRecordBytes} bytes`);
  }

  private decode(bytes: Buffer): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.fail('it is not UTF-8 text, which JSON has to be');
    }
  }

  private parse(text: string, what: string): unknown {
    try {
      return JSON.parse(text);
    } catch (cause) {
      return this.fail(`${what}: ${(cause as Error).message.replace(/\s+/g, ' ').slice(0, 120)}`);
    }
  }

  private fail(reason: string): never {
    throw inputError(this.path, `is not valid JSON (${reason}); get it again or mend it`);
  }
}
