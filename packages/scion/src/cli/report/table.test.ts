import { describe, expect, it } from 'vitest';
import { markdownTable, textTable } from './table.js';
import { sample } from './testing/sample.js';

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
      "Test accuracy in %, mean ± deviation over 3 seeds

      | method | 1 shot | 4 shots | 16 shots | params | seconds |
      | --- | ---: | ---: | ---: | ---: | ---: |
      | Zero-shot CLIP | 60.00 ± 0.00 | 60.00 ± 0.00 | 60.00 ± 0.00 | 0 | 1–16 |
      | Tip-Adapter | 62.00 ± 1.00 | 65.00 ± 1.00 | 70.00 ± 0.50 | 5.12K–81.9K | 1–16 |
      | GraphAdapter | 62.50 ± 1.00 | 66.00 ± 0.50 | **75.00 ± 1.00** | 1.05M | 1–16 |

      Bold: best by more than one deviation.

      Within noise of each other: 1 shot: GraphAdapter, Tip-Adapter; 4 shots: GraphAdapter, Tip-Adapter.
      "
    `);
  });
  it('escapes what Markdown would read', () => {
    const text = markdownTable(sample({ methods: [{ name: 'zero-shot', title: 'a|b <script> *x*\n[l](u)' }] }));
    expect(text).toContain('| a\\|b \\<script\\> \\*x\\* \\[l\\](u) | 60.00');
  });
});
