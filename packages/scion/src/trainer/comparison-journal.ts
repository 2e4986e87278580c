/**
 * The finished cells of a comparison under way, one JSON object a line, so that a comparison that was stopped or killed
 * goes on where it was. The first line says what is compared; it has to be the same to go on.
 */
import * as z from 'zod';
import { appendLine, readLines } from '../formats/files.js';
import { inputError, ScionError } from '../util/errors.js';
import type { ComparisonCell } from './compare.js';

const format = 1;
const header = z.object({
  format: z.literal(format),
  scion: z.string(),
  recipe: z.record(z.string(), z.unknown()),
  data: z.record(z.string(), z.string()),
});
/** What is compared: the recipe without its data, and the digest of every data set by its name. */
export type Subject = Omit<z.output<typeof header>, 'format'>;

/** Cells of classes of pictures. */
export const cellSchema = z.object({
  dataset: z.string(),
  method: z.string(),
  shots: z.number(),
  seed: z.number(),
  accuracy: z.number(),
  rows: z.number(),
  ece: z.number(),
  groups: z.record(z.string(), z.object({ rows: z.number(), accuracy: z.number() })).exactOptional(),
  trainableParameters: z.number(),
  seconds: z.number(),
  hyperparameters: z.record(z.string(), z.unknown()),
}) satisfies z.ZodType<ComparisonCell>;

/**
 * Opens the journal at `path`, or starts one there; gives the cells that it holds.
 * @throws ScionError where it is of another comparison, with everything that differs
 */
export async function openJournal<C>(
  path: string, subject: Subject, schema: z.ZodType<C>,
): Promise<{ cells: C[]; add: (cell: C) => Promise<void> }> {
  const lines = await readLines(path);
  const add = (cell: C): Promise<void> => appendLine(path, JSON.stringify(cell));
  const fix = `remove ${path} to start afresh, or choose another name for the result`;
  if (lines.length === 0) {
    await appendLine(path, JSON.stringify({ format, ...subject }));
    return { cells: [], add };
  }
  const [first, ...rest] = lines.map((line, i) => {
    try {
      return JSON.parse(line) as unknown;
    } catch (cause) {
      throw inputError(`${path}: line ${i + 1}`, `is no JSON; ${fix}`, { cause });
    }
  });
  const before = header.safeParse(first);
  if (!before.success) throw inputError(path, `is no list of finished cells that this version can go on with; ${fix}`);
  const changed = differences(before.data, subject);
  if (changed.length > 0) {
    throw new ScionError('input', changed.map((what) => (
      { path, message: `was begun with ${what}; give the same again, or ${fix}` })));
  }
  const cells = rest.map((value, i) => {
    const cell = schema.safeParse(value);
    if (!cell.success) throw inputError(`${path}: line ${i + 2}`, `is no finished cell; ${fix}`);
    return cell.data;
  });
  return { cells, add };
}

/** `seeds [1,2] and not [1,2,3]`, for everything that differs. */
function differences(before: Subject, now: Subject): string[] {
  const flat = ({ scion, recipe, data }: Subject): Record<string, string> => ({
    'version of Scion': scion,
    ...Object.fromEntries(Object.entries(recipe).map(([key, value]) => [key, JSON.stringify(value)])),
    ...Object.fromEntries(Object.entries(data).map(([name, digest]) => [`the content of ${name}`, digest.slice(0, 12)])),
  });
  const [a, b] = [flat(before), flat(now)];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => a[key] !== b[key])
    .map((key) => `${key} ${a[key] ?? 'absent'} and not ${b[key] ?? 'absent'}`);
}
