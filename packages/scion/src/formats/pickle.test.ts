import { describe, expect, it } from 'vitest';
import { ScionError } from '../util/errors.js';
import { PickleGlobal, PickleRecord, unpickle } from './pickle.js';
import type { PickleHost, PickleValue } from './pickle.js';

const called: string[] = [];
const known = new Map([
  ['good.make', new PickleGlobal('good.make', (args) => {
    called.push('good.make');
    return [...args];
  })],
  ['good.constant', new PickleGlobal('good.constant')],
  ['good.Class', new PickleGlobal('good.Class', undefined, true)],
]);
const host: PickleHost = { find: (name) => known.get(name), persistent: (id) => ['outside', id] };

/** Texts as they are (latin 1), numbers as one byte each. */
function bytesOf(...parts: (string | number)[]): Uint8Array {
  return Buffer.concat(parts.map((p) => (typeof p === 'number' ? Buffer.of(p) : Buffer.from(p, 'latin1'))));
}

/** A text as SHORT_BINUNICODE. */
function text(s: string): string {
  return `\x8c${String.fromCharCode(s.length)}${s}`;
}

function value(...parts: (string | number)[]): PickleValue {
  return unpickle(bytesOf('\x80\x02', ...parts, '.'), host, 'f.pt').value;
}

function refusal(...parts: (string | number)[]): string {
  called.length = 0;
  try {
    unpickle(bytesOf(...parts), host, 'f.pt');
  } catch (error) {
    expect(error).toBeInstanceOf(ScionError);
    expect((error as ScionError).kind).toBe('input');
    const { message } = error as ScionError;
    expect(message).toMatch(/^f\.pt: byte \d+ of the pickle: /);
    expect(message.length).toBeLessThan(400);
    expect(called).toEqual([]);
    return message;
  }
  return 'accepted';
}

describe('values', () => {
  it.each<[string, (string | number)[], PickleValue]>([
    ['None', ['N'], null],
    ['True and False', ['\x88\x89\x86'], [true, false]],
    ['small integers', ['K\xff', 'M\x01\x02', 'J\xfe\xff\xff\xff', '\x87'], [255, 513, -2]],
    ['long integers', ['\x8a\x00', '\x8a\x01\xff', '\x8a\x08\0\0\0\0\0\0\0\x80', '\x87'], [0, -1, -(2n ** 63n)]],
    ['the largest safe integer', ['\x8a\x07\xff\xff\xff\xff\xff\xff\x1f'], Number.MAX_SAFE_INTEGER],
    ['the integer after it', ['\x8a\x07\0\0\0\0\0\0\x20'], 2n ** 53n],
    ['floats', ['G\x3f\xf8\0\0\0\0\0\0'], 1.5],
    ['texts', [text('a'), 'X\x03\0\0\0\u00e2\u0082\u00ac', '\x8d\x01\0\0\0\0\0\0\0b', '\x87'], ['a', '€', 'b']],
    ['texts of Python 2', ['U\x01aT\x01\0\0\0b\x86'], ['a', 'b']],
    ['bytes', ['C\x01aB\x01\0\0\0b\x8e\x01\0\0\0\0\0\0\0c\x87'], ['a', 'b', 'c'].map((s) => Buffer.from(s))],
    ['lists', [']K\x01a(K\x02K\x03e'], [1, 2, 3]],
    ['tuples', [')(K\x01K\x02K\x03K\x04tK\x05\x85\x87'], [[], [1, 2, 3, 4], [5]]],
    ['dicts', ['}', text('a'), 'K\x01s(', text('b'), 'K\x02u'], new Map([['a', 1], ['b', 2]])],
    ['remembered values', [text('a'), 'q\x05r\x00\x01\0\0h\x05j\x00\x01\0\0\x87'], ['a', 'a', 'a']],
    ['values remembered in order', [text('a'), '\x94', text('b'), '\x94h\x00h\x01\x86\x87'], ['a', 'b', ['a', 'b']]],
    ['calls of known names', ['cgood\nmake\nK\x07\x85R'], [7]],
    ['calls of known names on the stack', [text('good'), text('make'), '\x93K\x07\x85R'], [7]],
    ['objects outside', ['K\x07Q'], ['outside', 7]],
    ['frames', ['\x95\x01\0\0\0\0\0\0\0N'], null],
  ])('%s', (_, parts, expected) => {
    expect(value(...parts)).toEqual(expected);
  });

  it('objects of a record class', () => {
    const record = value('cgood\nClass\n)\x81}', text('a'), 'K\x01sb') as PickleRecord;
    expect(record).toBeInstanceOf(PickleRecord);
    expect(record.state).toEqual(new Map([['a', 1]]));
  });

  it('keys that are special to JavaScript are just keys', () => {
    const dict = value('}', text('__proto__'), '}', text('polluted'), '\x88ss');
    expect(dict).toEqual(new Map([['__proto__', new Map([['polluted', true]])]]));
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('ignores the attributes of a dict', () => {
    expect(value('}}', text('_metadata'), 'Nsb')).toEqual(new Map());
  });

  it('says where the pickle ends', () => {
    expect(unpickle(bytesOf('..\x80\x02N.rest'), host, 'f.pt', 2)).toEqual({ value: null, end: 6 });
  });
});

describe('refuses what could run code, by name', () => {
  it.each<[string, (string | number)[], string]>([
    ['os.system by GLOBAL and REDUCE', ['\x80\x02cos\nsystem\n', text('true'), '\x85R.'], 'refers to os.system,'],
    ['posix.system', ['\x80\x02cposix\nsystem\n', text('true'), '\x85R.'], 'refers to posix.system,'],
    ['protocol 0', ["cos\nsystem\n(S'true'\ntR."], 'refers to os.system,'],
    ['STACK_GLOBAL', ['\x80\x04', text('builtins'), text('eval'), '\x93', text('1'), '\x85R.'], 'to builtins.eval,'],
    ['NEWOBJ', ['\x80\x02csubprocess\nPopen\n', text('true'), '\x85\x81.'], 'refers to subprocess.Popen,'],
    ['NEWOBJ_EX', ['\x80\x04cgood\nClass\n)}\x92.'], 'the instruction 0x92 is none'],
    ['INST', ['(', text('true'), 'ios\nsystem\n.'], 'refers to os.system,'],
    ['INST of a known name', ['(igood\nClass\n.'], 'makes an object of good.Class'],
    ['OBJ', ['(cos\nsystem\n', text('true'), 'o.'], 'refers to os.system,'],
    ['OBJ of a known name', ['(cgood\nClass\no.'], 'the instruction 0x6f is none'],
    ['EXT1', ['\x82\x05)R.'], 'extension code 5'],
    ['EXT2', ['\x83\x05\x01)R.'], 'extension code 261'],
    ['EXT4', ['\x84\x05\0\0\x80)R.'], 'extension code 2147483653'],
    ['attributes of names', ['\x80\x04', text('good'), text('make.__globals__'), '\x93.'], 'good.make.__globals__'],
    ['names with control characters', ['cos\x1b[2J\nsystem\n.'], 'refers to os?[2J.system,'],
    ['long names', [`c${'x'.repeat(5000)}\ny\n.`], `refers to ${'x'.repeat(100)},`],
    ['BUILD of what is no record', ['cgood\nmake\n}', text('__setstate__'), 'Nsb.'], 'sets the state of good.make'],
    ['BUILD twice', ['cgood\nClass\n)\x81}b}b.'], 'sets the state of an object'],
    ['a state that names code', ['cgood\nClass\n)\x81}', text('__setstate__'), 'cos\nsystem\nsb.'], 'to os.system,'],
    ['calls of constants', ['cgood\nconstant\n)R.'], 'calls good.constant: refused'],
    ['calls of record classes', ['cgood\nClass\n)R.'], 'calls good.Class: refused'],
    ['calls of texts', [text('os.system'), ')R.'], 'calls "os.system": refused'],
    ['calls of large numbers', ['\x8a\x08\0\0\0\0\0\0\0\x7f)R.'], 'calls a number beyond 2^53: refused'],
    ['calls without a tuple', ['cgood\nmake\nNR.'], 'calls good.make: refused'],
    ['objects of functions', ['cgood\nmake\n)\x81.'], 'makes an object of good.make: refused'],
    ['record arguments', ['cgood\nClass\nN\x85\x81.'], 'makes an object of good.Class: refused'],
  ])('%s', (_, parts, expected) => {
    expect(refusal(...parts)).toContain(expected);
  });
});

describe('refuses damage', () => {
  it.each<[string, (string | number)[], string]>([
    ['nothing', [], 'claims 1 bytes where 0 are left'],
    ['no end', ['\x80\x02N'], 'claims 1 bytes where 0 are left'],
    ['an unknown instruction', ['\x80\x02N\xff'], 'byte 3 of the pickle: the instruction 0xff is none'],
    ['an old protocol', ['\x80\x01N.'], 'pickle protocol 1, expected 2 to 5'],
    ['a future protocol', ['\x80\x06N.'], 'pickle protocol 6'],
    ['a text of 2^60 bytes', ['\x8d\0\0\0\0\0\0\0\x10a'], 'claims 1152921504606846976 bytes where 1 are left'],
    ['bytes of 2^64 - 1', [`\x8e${'\xff'.repeat(8)}a`], 'claims 18446744073709551615 bytes'],
    ['a text of 4 GB', ['X\xff\xff\xff\xffa'], 'claims 4294967295 bytes'],
    ['a text that is not UTF-8', ['\x8c\x01\xff.'], 'is not UTF-8'],
    ['a name without end', ['cos'], 'a line has no end'],
    ['a name that is no text', ['NN\x93.'], 'a name is not a text'],
    ['an empty stack', ['\x80\x02.'], 'unfinished values'],
    ['a tuple of nothing', ['\x86.'], 'the stack is empty'],
    ['reaching below a mark', ['N(\x85.'], 'the stack is empty'],
    ['no mark', ['Nt.'], 'no mark'],
    ['an open mark', ['(N.'], 'unfinished values'],
    ['two values', ['NN.'], 'unfinished values'],
    ['a value never remembered', ['h\x01.'], 'no remembered value 1'],
    ['remembering nothing', ['q\x01.'], 'the stack is empty'],
    ['items of a list', [']NNs.'], 'what is no dict'],
    ['a key without value', ['}(Nu.'], 'what is no dict'],
    ['appending to a tuple', [')Na.'], 'what is no list'],
    ['appending to a text', [text('a'), '(Ne.'], 'what is no list'],
  ])('%s', (_, parts, expected) => {
    expect(refusal(...parts)).toContain(expected);
  });

  it('too many instructions', () => {
    expect(refusal('}'.repeat(2 ** 20 + 1))).toContain('more than 1048576 instructions');
  });

  it('reads deep nesting without recursion', () => {
    const depth = 200_000;
    let list = value(']'.repeat(depth), 'a'.repeat(depth - 1));
    let found = 0;
    for (; Array.isArray(list); list = list[0] as PickleValue) found++;
    expect(found).toBe(depth);
  });
});
