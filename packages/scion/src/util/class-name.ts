/** The name of a class as a text has it: underscores are spaces, and spaces are single. */
export function readableName(name: string): string {
  return name.replaceAll('_', ' ').replace(/\s+/g, ' ').trim();
}
