/**
 * Python's pickle format as far as PyTorch writes it for tensors (protocols 2 to 5). A pickle is a program for a small
 * stack machine that, in Python, may import and call anything. This machine has no such power: a name stands for what
 * the host's table says or the pickle is refused, and there is no way from a value to code.
 *
 * Every instruction makes at most one value, and instructions are counted, so memory is bounded whatever the pickle
 * says. Values may be shared and circular: whoever walks over them has to bound the walk.
 */
import { inputError } from '../util/errors.js';
import { brief } from './json.js';

/** A value that only the host can make, such as a tensor; opaque to the machine. */
export abstract class PickleObject {
  /** Sets host objects apart from all other values for the type checker too. */
  protected readonly opaque = true;
}

/** What a name in the pickle stands for. */
export class PickleGlobal extends PickleObject {
  /**
   * @param call makes the value that a call of this name stands for; without it, the name cannot be called
   * @param isRecord whether the name is a class whose objects are plain records
   */
  constructor(
    readonly name: string,
    readonly call?: (args: readonly PickleValue[]) => PickleValue,
    readonly isRecord = false,
  ) {
    super();
  }
}

/** An object of a record class: its state and nothing else. */
export class PickleRecord extends PickleObject {
  state: PickleValue = null;
  constructor(readonly className: string) {
    super();
  }
}

/** Tuples are frozen arrays, lists are arrays, dicts are maps, integers beyond 2^53 are bigints. */
export type PickleValue =
  | null | boolean | number | bigint | string | Uint8Array | PickleObject | readonly PickleValue[]
  | Map<PickleValue, PickleValue>;

export interface PickleHost {
  /** What the name `module.name` stands for; undefined if the pickle is to be refused. */
  find(name: string): PickleGlobal | undefined;
  /** The object that lives outside of the pickle under this id. */
  persistent(id: PickleValue): PickleValue;
}

/** A value and the position behind its pickle. */
export interface Unpickled {
  readonly value: PickleValue;
  readonly end: number;
}

/** A pickle of this many bytes describes hundreds of thousands of tensors. */
export const maxPickleBytes = 2 ** 24;
const maxInstructions = 2 ** 20;
const damaged = 'the file is damaged or not written by PyTorch: get it or save it again';

/**
 * The value of the pickle that begins at `start`. Nothing is imported and nothing is called but the host's functions.
 * @param where the file, for messages
 * @throws ScionError of kind `input` that names what was refused and its position
 */
export function unpickle(bytes: Uint8Array, host: PickleHost, where: string, start = 0): Unpickled {
  const machine = new Machine(bytes, host, where, start);
  for (let count = 0; count < maxInstructions; count++) {
    machine.instruction = machine.position;
    const code = machine.byte();
    if (code === 0x2e) return { value: machine.result(), end: machine.position }; // STOP
    const run = instructions.get(code);
    if (!run) {
      const hex = `0x${code.toString(16).padStart(2, '0')}`;
      throw machine.fault(`the instruction ${hex} is none that describes tensors: refused; nothing was run`);
    }
    run(machine);
  }
  throw machine.fault(`the pickle has more than ${maxInstructions} instructions, far more than tensors need`);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

class Machine {
  /** Where the running instruction begins. */
  instruction = 0;
  readonly memo = new Map<number, PickleValue>();
  private readonly stack: PickleValue[] = [];
  /** Heights of the stack at which an open list of items begins. */
  private readonly marks: number[] = [];
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    readonly host: PickleHost,
    private readonly where: string,
    public position: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fault(message: string, fix = damaged): Error {
    return inputError(this.where, `byte ${this.instruction} of the pickle: ${message}; ${fix}`);
  }

  /** Moves past `length` bytes and returns where they begin. */
  private advance(length: number | bigint): number {
    const begin = this.position;
    const left = this.bytes.byteLength - begin;
    if (length > left) throw this.fault(`claims ${length} bytes where ${left} are left`);
    this.position += Number(length);
    return begin;
  }

  byte(): number { return this.view.getUint8(this.advance(1)); }
  uint16(): number { return this.view.getUint16(this.advance(2), true); }
  int32(): number { return this.view.getInt32(this.advance(4), true); }
  uint32(): number { return this.view.getUint32(this.advance(4), true); }
  uint64(): bigint { return this.view.getBigUint64(this.advance(8), true); }
  float64(): number { return this.view.getFloat64(this.advance(8)); }

  raw(length: number | bigint): Uint8Array {
    const begin = this.advance(length);
    return this.bytes.subarray(begin, this.position);
  }

  text(length: number | bigint): string {
    return this.decode(this.raw(length));
  }

  /** The text up to the next line feed. */
  line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end < 0) throw this.fault('a line has no end');
    const text = this.text(end - this.position);
    this.position = end + 1;
    return text;
  }

  private decode(bytes: Uint8Array): string {
    try {
      return utf8.decode(bytes);
    } catch {
      throw this.fault('a text is not UTF-8');
    }
  }

  /** A little-endian two's complement number. */
  integer(length: number): number | bigint {
    let value = 0n;
    for (const byte of this.raw(length).toReversed()) value = (value << 8n) | BigInt(byte);
    value = BigInt.asIntN(8 * length, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  pop(): PickleValue {
    this.need(1);
    return this.stack.pop()!;
  }

  peek(): PickleValue {
    this.need(1);
    return this.stack.at(-1)!;
  }

  popMany(count: number): PickleValue[] {
    this.need(count);
    return this.stack.splice(this.stack.length - count);
  }

  mark(): void {
    this.marks.push(this.stack.length);
  }

  popToMark(): PickleValue[] {
    const height = this.marks.pop();
    if (height === undefined) throw this.fault('there is no mark on the stack');
    return this.stack.splice(height);
  }

  private need(count: number): void {
    if (this.stack.length - (this.marks.at(-1) ?? 0) < count) throw this.fault('the stack is empty');
  }

  result(): PickleValue {
    if (this.stack.length !== 1 || this.marks.length > 0) throw this.fault('ends with unfinished values');
    return this.pop();
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fault(`there is no remembered value ${index}`);
    this.push(value);
  }

  find(module: PickleValue, name: PickleValue): PickleGlobal {
    if (typeof module !== 'string' || typeof name !== 'string') throw this.fault('a name is not a text');
    const full = `${module}.${name}`;
    const found = this.host.find(full);
    if (found) return found;
    const shown = full.slice(0, 100).replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
    throw this.fault(
      `refers to ${shown}, which is not a tensor: refused; nothing was run`,
      'save the weights alone, torch.save(model.state_dict(), file), or get them as safetensors',
    );
  }

  setItems(items: readonly PickleValue[]): void {
    const dict = this.peek();
    if (!(dict instanceof Map) || items.length % 2 > 0) throw this.fault('sets items of what is no dict');
    for (let i = 0; i < items.length; i += 2) dict.set(items[i]!, items[i + 1]!);
  }

  append(items: readonly PickleValue[]): void {
    const list = this.peek();
    if (!isList(list)) throw this.fault('appends to what is no list');
    for (const item of items) list.push(item);
  }

  reduce(): void {
    const [target, args] = this.popMany(2);
    if (!(target instanceof PickleGlobal && target.call && Array.isArray(args))) {
      throw this.fault(`calls ${describeValue(target)}: refused; nothing was run`);
    }
    this.push(target.call(args as readonly PickleValue[]));
  }

  newObject(): void {
    const [target, args] = this.popMany(2);
    if (!(target instanceof PickleGlobal && target.isRecord && Array.isArray(args) && args.length === 0)) {
      throw this.fault(`makes an object of ${describeValue(target)}: refused; nothing was run`);
    }
    this.push(new PickleRecord(target.name));
  }

  build(): void {
    const state = this.pop();
    const target = this.peek();
    if (target instanceof PickleRecord && target.state === null) target.state = state;
    // a state dict's attributes (_metadata: versions of modules) say nothing about tensors
    else if (!(target instanceof Map)) throw this.fault(`sets the state of ${describeValue(target)}: refused`);
  }
}

function isList(value: PickleValue): value is PickleValue[] {
  return Array.isArray(value) && !Object.isFrozen(value);
}

/** A value in a few words for a message. */
export function describeValue(value: PickleValue | undefined): string {
  if (value instanceof PickleGlobal) return value.name.slice(0, 100);
  return typeof value === 'bigint' ? 'a number beyond 2^53' : brief(value);
}

function refuseExtension(m: Machine, code: number): never {
  throw m.fault(`refers to extension code ${code}, which can stand for anything: refused; nothing was run`);
}

function protocol(m: Machine): void {
  const version = m.byte();
  if (version < 2 || version > 5) throw m.fault(`pickle protocol ${version}, expected 2 to 5`);
}

const tuple = (items: PickleValue[]): PickleValue => Object.freeze(items);

/** All that this machine can do, by the names in Python's pickletools. */
const instructions: ReadonlyMap<number, (m: Machine) => void> = new Map(Object.entries({
  PROTO: [0x80, protocol],
  FRAME: [0x95, (m) => void m.uint64()], // a hint for reading ahead
  MARK: ['(', (m) => m.mark()],
  NONE: ['N', (m) => m.push(null)],
  NEWTRUE: [0x88, (m) => m.push(true)],
  NEWFALSE: [0x89, (m) => m.push(false)],
  BININT: ['J', (m) => m.push(m.int32())],
  BININT1: ['K', (m) => m.push(m.byte())],
  BININT2: ['M', (m) => m.push(m.uint16())],
  LONG1: [0x8a, (m) => m.push(m.integer(m.byte()))],
  BINFLOAT: ['G', (m) => m.push(m.float64())],
  BINUNICODE: ['X', (m) => m.push(m.text(m.uint32()))],
  SHORT_BINUNICODE: [0x8c, (m) => m.push(m.text(m.byte()))],
  BINUNICODE8: [0x8d, (m) => m.push(m.text(m.uint64()))],
  SHORT_BINSTRING: ['U', (m) => m.push(m.text(m.byte()))], // Python 2
  BINSTRING: ['T', (m) => m.push(m.text(m.uint32()))],
  SHORT_BINBYTES: ['C', (m) => m.push(m.raw(m.byte()))],
  BINBYTES: ['B', (m) => m.push(m.raw(m.uint32()))],
  BINBYTES8: [0x8e, (m) => m.push(m.raw(m.uint64()))],
  EMPTY_LIST: [']', (m) => m.push([])],
  APPEND: ['a', (m) => m.append([m.pop()])],
  APPENDS: ['e', (m) => m.append(m.popToMark())],
  EMPTY_TUPLE: [')', (m) => m.push(tuple([]))],
  TUPLE: ['t', (m) => m.push(tuple(m.popToMark()))],
  TUPLE1: [0x85, (m) => m.push(tuple(m.popMany(1)))],
  TUPLE2: [0x86, (m) => m.push(tuple(m.popMany(2)))],
  TUPLE3: [0x87, (m) => m.push(tuple(m.popMany(3)))],
  EMPTY_DICT: ['}', (m) => m.push(new Map())],
  SETITEM: ['s', (m) => m.setItems(m.popMany(2))],
  SETITEMS: ['u', (m) => m.setItems(m.popToMark())],
  BINPUT: ['q', (m) => void m.memo.set(m.byte(), m.peek())],
  LONG_BINPUT: ['r', (m) => void m.memo.set(m.uint32(), m.peek())],
  MEMOIZE: [0x94, (m) => void m.memo.set(m.memo.size, m.peek())],
  BINGET: ['h', (m) => m.recall(m.byte())],
  LONG_BINGET: ['j', (m) => m.recall(m.uint32())],
  GLOBAL: ['c', (m) => m.push(m.find(m.line(), m.line()))],
  STACK_GLOBAL: [0x93, (m) => { const [module, name] = m.popMany(2); m.push(m.find(module!, name!)); }],
  REDUCE: ['R', (m) => m.reduce()],
  NEWOBJ: [0x81, (m) => m.newObject()],
  BUILD: ['b', (m) => m.build()],
  BINPERSID: ['Q', (m) => m.push(m.host.persistent(m.pop()))],
  // known only so that the refusal can name what would have been called
  INST: ['i', (m) => { throw m.fault(`makes an object of ${m.find(m.line(), m.line()).name}: refused`); }],
  EXT1: [0x82, (m) => refuseExtension(m, m.byte())],
  EXT2: [0x83, (m) => refuseExtension(m, m.uint16())],
  EXT4: [0x84, (m) => refuseExtension(m, m.uint32())],
} satisfies Record<string, [number | string, (m: Machine) => void]>).map(([, [code, run]]) =>
  [typeof code === 'string' ? code.charCodeAt(0) : code, run]));
