/** A Markdown table that is also readable in a terminal: padded, numbers to the right. */
export function table(header, rows) {
  const lines = [header, ...rows].map((row) => row.map(String));
  const widths = header.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const line = (cells) => `| ${cells.map((c, i) => (i ? c.padStart(widths[i]) : c.padEnd(widths[i]))).join(' | ')} |`;
  const rule = widths.map((w, i) => (i ? `${'-'.repeat(w - 1)}:` : '-'.repeat(w)));
  return [line(lines[0]), line(rule), ...lines.slice(1).map(line)].join('\n');
}

/** `0.49 (0.47–0.52)`: median and quartiles. */
export const spread = ({ median, low, high }, digits = 2) =>
  `${median.toFixed(digits)} (${low.toFixed(digits)}–${high.toFixed(digits)})`;

export const percent = (x) => `${(100 * x).toFixed(1)} %`;
export const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
