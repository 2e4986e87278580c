import { describe, expect, it } from 'vitest';
import { markdownTable as markdownWith, textTable as textWith } from './table.js';
import { sample, twoSets } from './testing/sample.js';
import type { CompareResult } from './types.js';

const textTable = (result: CompareResult): string => textWith(result, ['zero-shot']);
const markdownTable = (result: CompareResult): string => markdownWith(result, ['zero-shot']);
const { cells, methods } = sample();
const gap = sample({ cells: cells.filter((c) => c.method !== 'tip-adapter' || c.shots === 1) });

describe('textTable', () => {
  it('aligns rows of methods and columns of shots', () => {
    expect(textTable(sample())).toMatchInlineSnapshot(`
      "Test accuracy in %, mean ± deviation over 3 seeds

      method                1 shot        4 shots       16 shots        params  seconds
      ──────────────  ─────────────  ─────────────  ─────────────  ───────────  ───────
      Zero-shot CLIP  60.00 ± 0.00   60.00 ± 0.00   60.00 ± 0.00             0     1–16
      Tip-Adapter     62.00 ± 1.00   65.00 ± 1.00   70.00 ± 0.50   5.12K–81.9K     1–16
      GraphAdapter    62.50 ± 1.00   66.00 ± 0.50   75.00 ± 1.00*        1.05M     1–16

      *: best by more than one deviation.
      Within noise of each other: 1 shot: GraphAdapter, Tip-Adapter; 4 shots: GraphAdapter, Tip-Adapter.

      95 % intervals of these accuracies: the test rows and the draws of the seeds

      method                  1 shot         4 shots        16 shots
      ──────────────  ──────────────  ──────────────  ──────────────
      Zero-shot CLIP  [55.72, 64.28]  [55.72, 64.28]  [55.72, 64.28]
      Tip-Adapter     [57.60, 66.40]  [60.67, 69.33]  [65.95, 74.05]
      GraphAdapter    [58.11, 66.89]  [61.82, 70.18]  [71.03, 78.97]
      "
    `);
  });
  it('shows no deviation of one seed and marks nothing', () => {
    const single = sample({ seeds: [1], shots: [16], cells: cells.filter((c) => c.seed === 1 && c.shots === 16) });
    expect(textTable(single)).toMatchInlineSnapshot(`
      "Test accuracy in %, one seed

      method          16 shots   params  seconds
      ──────────────  ─────────  ──────  ───────
      Zero-shot CLIP     60.00        0        8
      Tip-Adapter        70.00    81.9K        8
      GraphAdapter       75.00    1.05M        8

      No deviation, hence no best marked (one seed): 16 shots.

      95 % intervals of these accuracies: the test rows alone, since one seed was tested

      method                16 shots
      ──────────────  ──────────────
      Zero-shot CLIP  [55.72, 64.28]
      Tip-Adapter     [65.99, 74.01]
      GraphAdapter    [71.21, 78.79]
      "
    `);
  });
  it('shows a dash where no cell was tested', () => {
    const [row] = textTable(gap).split('\n').filter((l) => l.startsWith('Tip-Adapter'));
    expect(row).toBe('Tip-Adapter     62.00 ± 1.00              –              –    5.12K        1');
    expect(textTable(gap)).toContain(
      'Fewer seeds than planned: Tip-Adapter at 4 shots (0 of 3), Tip-Adapter at 16 shots (0 of 3).');
    expect(textTable(sample({ cells: [] }))).not.toMatch(/NaN|undefined|Infinity/);
  });
  it('lets no title steer the terminal', () => {
    const title = 'red \u001b[31m\nnext\u202e';
    const text = textTable(sample({ methods: [{ ...methods[0]!, title }, ...methods.slice(1)] }));
    expect(text).not.toMatch(/[\u001b\u202e]/);
    expect(text.split('\n').length).toBe(textTable(sample()).split('\n').length);
  });
});

describe('markdownTable', () => {
  it('is a table with the best in bold', () => {
    expect(markdownTable(sample())).toMatchInlineSnapshot(`
      "## pets
      Test accuracy in %, mean ± deviation over 3 seeds

      | method | 1 shot | 4 shots | 16 shots | params | seconds |
      | --- | ---: | ---: | ---: | ---: | ---: |
      | Zero-shot CLIP | 60.00 ± 0.00 | 60.00 ± 0.00 | 60.00 ± 0.00 | 0 | 1–16 |
      | Tip-Adapter | 62.00 ± 1.00 | 65.00 ± 1.00 | 70.00 ± 0.50 | 5.12K–81.9K | 1–16 |
      | GraphAdapter | 62.50 ± 1.00 | 66.00 ± 0.50 | **75.00 ± 1.00** | 1.05M | 1–16 |

      Bold: best by more than one deviation.

      Within noise of each other: 1 shot: GraphAdapter, Tip-Adapter; 4 shots: GraphAdapter, Tip-Adapter.

      95 % intervals of these accuracies: the test rows and the draws of the seeds

      | method | 1 shot | 4 shots | 16 shots |
      | --- | ---: | ---: | ---: |
      | Zero-shot CLIP | [55.72, 64.28] | [55.72, 64.28] | [55.72, 64.28] |
      | Tip-Adapter | [57.60, 66.40] | [60.67, 69.33] | [65.95, 74.05] |
      | GraphAdapter | [58.11, 66.89] | [61.82, 70.18] | [71.03, 78.97] |

      Difference to Zero-shot CLIP in points, paired by data set and seed, 95 % intervals: Student's t over the seeds, without the doubt of the test rows

      | method | 1 shot | 4 shots | 16 shots |
      | --- | ---: | ---: | ---: |
      | Tip-Adapter | +2.00 [-0.48, +4.48] | +5.00 [+2.52, +7.48] | +10.00 [+8.76, +11.24] |
      | GraphAdapter | +2.50 [+0.02, +4.98] | +6.00 [+4.76, +7.24] | +15.00 [+12.52, +17.48] |

      ## Data sets
      Rows of features

      | data set | classes | train | test | model |
      | --- | ---: | ---: | ---: | ---: |
      | pets | 10 | 1,000 | 500 | clip-vit-b16 |
      "
    `);
  });
  it('escapes what Markdown would read', () => {
    const text = markdownTable(sample({ methods: [{ name: 'zero-shot', method: 'zero-shot', title: 'a|b <script> *x*\n[l](u)' }] }));
    expect(text).toContain('| a\\|b \\<script\\> \\*x\\* \\[l\\](u) | 60.00');
  });
});

describe('several data sets', () => {
  it('begin with the average, its intervals and differences, then groups of rows and every data set', () => {
    const captions = textTable(twoSets()).split('\n').filter((line) => / in %, | in points, |^95 %/.test(line));
    expect(captions).toEqual([
      'Average over 2 data sets: test accuracy in %, mean ± deviation over 3 seeds of the mean over the data sets',
      '95 % intervals of these accuracies: the test rows and the draws of the seeds',
      "Difference to Zero-shot CLIP in points, paired by data set and seed, 95 % intervals: Student's t over 2 data sets",
      'food, seen: test accuracy in %, mean ± deviation over 3 seeds',
      'food, unseen: test accuracy in %, mean ± deviation over 3 seeds',
      'pets: test accuracy in %, mean ± deviation over 3 seeds',
      'food: test accuracy in %, mean ± deviation over 3 seeds',
    ]);
  });
  it('have a section each in Markdown, with the size of the data at the end', () => {
    const text = markdownTable(twoSets());
    expect(text.match(/^## .*$/gm)).toEqual(['## Average over 2 data sets', '## pets', '## food', '## Data sets']);
    expect(text).toContain('| GraphAdapter | +2.67 [+0.55, +4.78] |');
    expect(text).toContain('| food | 20 | 1,000 | 100 | clip-vit-b16 |');
  });
});
