/** What `scion compare` measured: the data behind its report. */
import type { ComparisonResult } from '../../index.js';

export type { ComparisonCell as CompareCell, ComparisonResult as CompareResult } from '../../index.js';
export type CompareMethod = ComparisonResult['methods'][number];
