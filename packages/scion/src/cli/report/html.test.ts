import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { htmlReport as htmlWith } from './html.js';
import { seriesColours } from './plot.js';
import { stylesheet } from './stylesheet.js';
import { sample, twoSets } from './testing/sample.js';
import type { CompareResult } from './types.js';

interface Found { textContent: string; getAttribute(name: string): string | null; localName: string }
const find = (page: string, selector: string): Found[] => [
  ...(parseHTML(page) as unknown as { document: { querySelectorAll(s: string): Iterable<Found> } })
    .document.querySelectorAll(selector),
];
const texts = (page: string, selector: string) => find(page, selector).map((e) => e.textContent.trim());

const htmlReport = (result: CompareResult): string => htmlWith(result, ['zero-shot']);
const { cells, methods, datasets } = sample();
const page = htmlReport(sample({ warnings: ['16 shots: one class has only 12 images'] }));

describe('htmlReport', () => {
  it('opens with what holds at most shots', () => {
    expect(texts(page, '.lead')).toEqual(['With 16 shots per class, GraphAdapter reaches 75.00 ± 1.00 % ' +
      '(+15.00 ± 1.00 points over Zero-shot CLIP), more than one deviation above the other methods.']);
    expect(texts(page, '.warnings li')).toEqual(['16 shots: one class has only 12 images']);
    expect(find(htmlReport(sample()), '.warnings')).toEqual([]);
  });

  it('names rivals within noise', () => {
    const close = htmlReport(sample({ shots: [1], cells: cells.filter((c) => c.shots === 1) }));
    expect(texts(close, '.lead')[0]).toContain('within noise of Tip-Adapter.');
    expect(find(close, 'td strong')).toEqual([]);
  });

  it('has every number in accessible tables', () => {
    const tables = find(page, 'table');
    expect(find(page, 'table > caption')).toHaveLength(tables.length);
    expect(find(page, 'th').filter((th) => !/^(row|col)$/.test(th.getAttribute('scope') ?? ''))).toEqual([]);
    expect(texts(page, 'td strong')).toEqual(['75.00 ± 1.00']);
    expect(find(page, 'details tbody tr').length).toBeGreaterThanOrEqual(cells.length);
    for (const value of ['sha256:0123456789abcdef', 'graph-adapter', '{"name":"cosine","warmup":1}', 'v20.19.0']) {
      expect(texts(page, 'details td')).toContain(value);
    }
    expect(find(page, 'svg[role=img] > title, svg[role=img] > desc')).toHaveLength(2);
  });

  it('shows the average, every data set beside each other, and groups of rows', () => {
    const both = htmlReport(twoSets());
    expect(texts(both, '.lead')[0]).toContain('on average over 2 data sets (+15.17 ± ');
    expect(texts(both, '.multiples figcaption')).toEqual(['pets', 'food']);
    expect(find(both, 'svg[role=img] > title').map((t) => t.textContent)).toEqual([
      'Test accuracy over shots, average over 2 data sets', 'Test accuracy over shots, pets',
      'Test accuracy over shots, food',
    ]);
    const captions = texts(both, 'caption').join('\n');
    for (const part of ['of the mean over the data sets', 'food, unseen', 'over 2 data sets; bold where it leaves out 0']) {
      expect(captions).toContain(part);
    }
    const ids = find(both, '[id]').map((e) => e.getAttribute('id')!);
    expect(new Set(ids).size).toBe(ids.length);
    expect(texts(both, 'td small').every((t) => /^(\[[-+\d.]+, [-+\d.]+\]|–)$/.test(t))).toBe(true);
  });

  it('shows what there is where one data set has not been tested yet', () => {
    const part = htmlReport(twoSets({ cells: cells.filter((c) => c.dataset === 'pets') }));
    expect(texts(part, '.lead')).toEqual(['No cell was tested on every data set.']);
    expect(find(part, '.multiples svg')).toHaveLength(1);
    expect(texts(part, '.multiples p')).toEqual(['No cell was tested.']);
    expect(texts(part, '.legend span')).toEqual(methods.map((m) => m.title));
    expect(part).not.toMatch(/NaN|undefined|Infinity|>false<|>null</);
  });

  it('gives every id once and refers to no other', () => {
    const ids = find(page, '[id]').map((e) => e.getAttribute('id')!);
    expect(new Set(ids).size).toBe(ids.length);
    const references = ['aria-labelledby', 'aria-describedby'].flatMap((a) =>
      find(page, `[${a}]`).map((e) => e.getAttribute(a)!));
    expect(references.filter((r) => !ids.includes(r))).toEqual([]);
  });

  it('asks for nothing from outside and runs nothing', () => {
    expect(find(page, 'script, link, img, iframe, object, embed, base, [src], [srcset]')).toEqual([]);
    expect(page).not.toMatch(/@import|url\(|\son\w+=/);
    const withoutLinks = page.replace(/<a href="https:[^"]*" rel="noreferrer">[^<]*<\/a>/g, '')
      .replaceAll('xmlns="http://www.w3.org/2000/svg"', '');
    expect(withoutLinks).not.toMatch(/https?:\/\//);
  });

  it('defines every colour of the plot for light and dark', () => {
    for (const name of [...Array(seriesColours).keys()].map((i) => `--series-${i}`).concat('--muted', '--paper')) {
      expect(stylesheet.split(`${name}:`)).toHaveLength(3);
      expect(page).toContain(`${name}:`);
    }
    for (const [, name] of page.matchAll(/var\((--[\w-]+)\)/g)) expect(stylesheet).toContain(`${name!}:`);
  });

  it('escapes every text', () => {
    const evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\'&amp;';
    const hostile = htmlReport(sample({
      created: evil, scionVersion: evil,
      datasets: datasets.map((d) => ({ ...d, path: evil, digest: evil, model: evil })),
      recipe: { [evil]: evil, nested: { [evil]: evil } }, environment: { [evil]: evil }, warnings: [evil],
      methods: methods.map((m) => ({ ...m, title: evil, paper: `https://example.org/${evil}` })),
      cells: cells.map((c) => ({ ...c, hyperparameters: { [evil]: evil } })),
    }));
    expect(find(hostile, 'script, img, [onerror]')).toEqual([]);
    expect(hostile).not.toMatch(/<script|<img/);
    expect(texts(hostile, '.legend span')).toEqual([evil, evil, evil]);
    expect(texts(hostile, '.warnings li')).toEqual([evil]);
  });

  it('links only web addresses', () => {
    const papers = ['javascript:alert(1)', 'https://arxiv.org/abs/2309.13625', 'Li et al.'];
    const linked = htmlReport(sample({ methods: methods.map((m, i) => ({ ...m, paper: papers[i]! })) }));
    expect(find(linked, 'a').map((a) => a.getAttribute('href'))).toEqual([papers[1]]);
  });

  it.each([
    ['one seed', sample({ seeds: [2], cells: cells.filter((c) => c.seed === 2) }), 'one seed, so the noise is unknown'],
    ['one number of shots', sample({ shots: [4], cells: cells.filter((c) => c.shots === 4) }), 'With 4 shots'],
    ['missing cells', sample({ cells: cells.filter((c) => c.method !== 'zero-shot' || c.seed === 1) }), 'reaches 75'],
    ['one method', sample({ methods: methods.slice(0, 1) }), 'Zero-shot CLIP reaches 60.00 ± 0.00 %.'],
    ['no cell', sample({ cells: [] }), 'No cell was tested.'],
  ])('holds with %s', (_, result, lead) => {
    const report = htmlReport(result);
    expect(texts(report, '.lead')[0]).toContain(lead);
    expect(report).not.toMatch(/NaN|undefined|Infinity|>false<|>null</);
    if (result.seeds.length === 1) expect(texts(report, '#first-accuracy, td').join()).not.toContain('±');
  });
});
