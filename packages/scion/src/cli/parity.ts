/** `npm run parity -- DIR`: every reference file of a folder against the methods here. */
import { checkParity, parityTolerance, usageError } from '../index.js';
import { print, report, table } from './output.js';

const args = process.argv.slice(2).filter((a) => a !== '--json');
const json = process.argv.includes('--json');
try {
  const [folder] = args;
  if (folder === undefined || args.length > 1)
    throw usageError('', 'usage: npm run parity -- DIR [--json], e.g. fixtures/methods');
  const results = await checkParity(folder);
  const checked = results.filter((r) => r.method);
  const failed = checked.flatMap((r) => r.tensors).filter((t) => !t.ok).length;
  const compared = checked.flatMap((r) => r.tensors).length;
  print(json, { files: results, compared, failed }, () =>
    [
      table(
        ['file', 'tensor', 'largest error', 'of tolerance', ''],
        checked.flatMap((r) =>
          r.tensors.map((t) => [
            r.file,
            t.name,
            t.error.toExponential(2),
            t.share.toFixed(4),
            t.ok ? 'ok' : `MISMATCH${t.note ? ` ${t.note}` : ''}`,
          ]),
        ),
      ),
      '',
      ...results.filter((r) => !r.method).map((r) => `no method yet: ${r.file}`),
      `${checked.length} files, ${compared} tensors, ${failed} mismatches (tolerance ${parityTolerance.absolute} absolute or ` +
        `${parityTolerance.relative} relative, whichever is looser)`,
    ].join('\n'),
  );
  if (failed > 0 || compared === 0) process.exitCode = 1;
} catch (error) {
  process.exitCode = report(error);
}
