/** `605 MB`, as the hub's pages count: in powers of 1000. */
export function bytesInWords(bytes: number): string {
  const [unit, size] = ([['GB', 1e9], ['MB', 1e6], ['kB', 1e3]] as const).find(([, s]) => bytes >= s) ?? ['bytes', 1];
  const count = bytes / size;
  return `${count < 10 && size > 1 ? count.toFixed(2) : count.toFixed(0)} ${unit}`;
}
