/** CSV as RFC 4180 defines it, with either line end: strict, since one misread quote shifts all that follows. */
import { inputError } from '../util/errors.js';

export interface CsvRow {
  /** The line of the file on which the row begins, from 1. */
  readonly line: number;
  readonly fields: readonly string[];
}

const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;

/**
 * The rows of a CSV text; empty lines are left out. A byte order mark is skipped.
 * @param where the file, for messages
 * @throws ScionError of kind `input` for a quote out of place, or a row that is longer or shorter than the first
 */
export function parseCsv(text: string, where: string): CsvRow[] {
  const rows: CsvRow[] = [];
  const body = text.startsWith('\ufeff') ? text.slice(1) : text;
  let [at, line] = [0, 1];
  while (at < body.length) {
    const fields: string[] = [];
    const first = line;
    for (let end = ','; end === ',';) {
      field.lastIndex = at;
      const found = field.exec(body);
      if (!found) {
        throw inputError(`${where}: line ${line}`, 'has a quote out of place, expected quotes around a whole field and '
          + 'doubled within it; mend the line');
      }
      fields.push(found[1]?.replaceAll('""', '"') ?? found[2]!);
      end = found[3]!;
      line += found[0].split('\n').length - 1;
      at = field.lastIndex;
    }
    if (fields.length === 1 && fields[0] === '') continue;
    const expected = rows[0]?.fields.length ?? fields.length;
    if (fields.length !== expected) {
      throw inputError(`${where}: line ${first}`, `has ${fields.length} fields, expected ${expected} as in line 1; `
        + 'put quotes around fields that contain a comma');
    }
    rows.push({ line: first, fields });
  }
  return rows;
}
