/** The statistics of a comparison as data, for those who read its JSON. */
import { type Difference, type MethodSummary, differences, groupViewsOf, summarise, viewsOf } from './statistics.js';
import type { CompareResult } from './types.js';

/** One table of the report: accuracies as shares with deviations and 95 % intervals, and differences to references. */
export interface ViewSummary {
  title: string;
  datasets: readonly string[];
  group?: string;
  methods: (MethodSummary & { differences: { reference: string; byShots: (Difference | null)[] }[] })[];
}

/** The average over all data sets first, where there are several; then every data set; each followed by its groups. */
export function summaryOf(result: CompareResult, references: readonly string[]): ViewSummary[] {
  return viewsOf(result).flatMap((view) => [view, ...groupViewsOf(result, view)]).map((view) => {
    const found = references.map((reference) => ({ reference, of: differences(result, view, reference) }));
    return {
      ...view,
      methods: summarise(result, view).map((m) => ({
        ...m,
        differences: found.filter(({ reference }) => reference !== m.name)
          .map(({ reference, of }) => ({ reference, byShots: of.get(m.name)!.map((d) => d ?? null) })),
      })),
    };
  });
}
