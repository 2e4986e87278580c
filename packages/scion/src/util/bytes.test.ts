import { expect, test } from 'vitest';
import { bytesInWords } from './bytes.js';

test.each([
  [0, '0 bytes'], [999, '999 bytes'], [1000, '1.00 kB'], [12_345, '12 kB'], [605_247_071, '605 MB'], [1.71e9, '1.71 GB'],
])('%d bytes', (bytes, words) => expect(bytesInWords(bytes)).toBe(words));
