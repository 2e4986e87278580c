/** `org/name[@revision]`, the name of a model on the hub. */

export interface ModelId {
  /** `org/name` */
  readonly id: string;
  /** Branch, tag or commit; absent where none is named. */
  readonly revision?: string;
}

const part = String.raw`[A-Za-z0-9_](?:[\w.-]{0,94}[\w-])?`;
const pattern = new RegExp(`^(${part}/${part})(?:@(.*))?$`, 's');

/** The parts of a model's name; undefined for what cannot be one, such as `./folder` or `a/b/c`. */
export function parseModelId(model: string): ModelId | undefined {
  const [, id, revision] = pattern.exec(model) ?? [];
  // as huggingface_hub has it: `--` and `..` stand for something else in the cache
  if (id === undefined || /--|\.\.|\.git$|\.ipynb$/.test(id)) return undefined;
  return revision === undefined ? { id } : { id, revision };
}

/** Names of branches, tags and commits as they may also be a path below `refs/`. */
export function isRevision(revision: string): boolean {
  return revision.length <= 200 && revision.split('/').every((name) => /^[\w+-][\w.+-]*$/.test(name) &&
    !/\.\.|\.$|\.lock$/.test(name));
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);
