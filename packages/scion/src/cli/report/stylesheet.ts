/**
 * The style of the HTML report. The series colours are after Okabe and Ito, darkened for light and lightened for dark
 * backgrounds to a contrast of at least 4.5:1; marker and dash tell the series apart without them.
 */
export const stylesheet = `
:root {
  --paper: #fff; --ink: #1c2127; --muted: #5c6670; --rule: #d5dae0; --shade: #f4f6f8; --warn: #8a4b00;
  --series-0: #0072b2; --series-1: #c94f00; --series-2: #00805a;
  --series-3: #b0478a; --series-4: #946800; --series-5: #5b4fc4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e6e9ec; --muted: #a0aab4; --rule: #3a424b; --shade: #1e2328; --warn: #f0b060;
    --series-0: #56b4e9; --series-1: #ff8a3d; --series-2: #35c795;
    --series-3: #e79ac7; --series-4: #e9c04a; --series-5: #a9a2ff;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
a { color: var(--series-0); }
.lead { font-size: 1.1rem; margin: 0 0 .5rem; }
.quiet { color: var(--muted); font-size: .875rem; margin: .25rem 0; }
.warnings { border-left: 4px solid var(--warn); background: var(--shade); margin: 1rem 0; padding: .5rem 1rem; }
.warnings h2 { margin: 0; color: var(--warn); }
.warnings ul { margin: .25rem 0; padding-left: 1.25rem; }
figure { margin: 0 0 1.5rem; max-width: 45rem; }
figure > svg { width: 100%; height: auto; font-size: 13px; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem 1.25rem; }
.multiples figure { margin: 0; }
.multiples figcaption { font-size: .9rem; font-weight: 600; }
.multiples svg { font-size: 11px; }
td small { display: block; color: var(--muted); font-size: .75rem; line-height: 1.2; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; padding: 0; }
.legend li { display: flex; align-items: center; gap: .5rem; font-size: .9rem; line-height: 1.3; }
.legend svg { flex: none; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--series-0); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; min-width: 100%; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
caption span { display: block; position: sticky; left: 0; width: min(100vw - 2rem, 58rem); }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); padding-left: 0; }
tbody th { font-weight: 400; white-space: normal; min-width: 7rem; max-width: 16rem; }
thead th { color: var(--muted); font-weight: 600; }
td.text, th.text { text-align: left; white-space: normal; min-width: 12rem; }
details { border-top: 1px solid var(--rule); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 34rem) { figure:not(.small) > svg { font-size: 18px; } }
@media print { .scroll { overflow: visible; } }
`;
