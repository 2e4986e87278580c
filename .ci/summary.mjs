// Prints one line, "N passed, N failed, N skipped", from the report of vitest's JSON reporter.
import { existsSync, readFileSync } from 'node:fs';

const [file, status] = process.argv.slice(2);
const report = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
// a file that could not be loaded fails without a test in it
const broken = (report.testResults ?? []).filter((f) => f.status === 'failed' && f.assertionResults.length === 0).length;
// an error outside of any test, or a build that failed before the first one, is a failure too
const failed = Math.max((report.numFailedTests ?? 0) + broken, status === '0' ? 0 : 1);
const skipped = (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0);
console.log(`${report.numPassedTests ?? 0} passed, ${failed} failed, ${skipped} skipped`);
