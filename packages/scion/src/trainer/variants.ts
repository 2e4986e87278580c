/**
 * The entries of a comparison. One method may appear under several names with other settings: as `graph-adapter:beta=1`
 * in a list, or as an object with a name of its own in a recipe.
 */
import { usageError } from '../util/errors.js';

/** A method under a name, with what it changes. */
export interface Variant {
  /** What the report calls it; the method's own name where nothing is changed. */
  name: string;
  method: string;
  /** Hyper-parameters of the method, on top of those that the comparison sets for all variants of it. */
  config?: Record<string, unknown> | undefined;
  /** Changes to the training, on top of the comparison's. */
  training?: Record<string, unknown> | undefined;
  search?: 'auto' | 'on' | 'off' | undefined;
}

/**
 * `method`, or `method:key=value:key=value` with hyper-parameters, `training.<key>` and `search`.
 * @throws ScionError where it is neither; what the values may be is checked with the recipe
 */
export function parseVariant(text: string): Variant {
  const [method, ...settings] = text.split(':') as [string, ...string[]];
  const config: Record<string, unknown> = {};
  const training: Record<string, unknown> = {};
  let search: unknown;
  for (const setting of settings) {
    const [, key, given] = /^([^=]+)=(.*)$/.exec(setting) ?? [];
    if (key === undefined) {
      throw usageError('methods', `${JSON.stringify(text)}: ${JSON.stringify(setting)} is no setting, expected `
        + 'method:key=value, e.g. graph-adapter:beta=0.7');
    }
    const value = scalarOf(given!);
    if (key === 'search') search = value;
    else if (key.startsWith('training.')) put(training, key.slice('training.'.length), value);
    else put(config, key, value);
  }
  return {
    name: text,
    method,
    ...(Object.keys(config).length > 0 ? { config } : {}),
    ...(Object.keys(training).length > 0 ? { training } : {}),
    ...(search === undefined ? {} : { search: search as NonNullable<Variant['search']> }),
  };
}

/** How a report calls a variant: `GraphAdapter (beta 1)` for `graph-adapter:beta=1`, or the name it was given. */
export function variantTitle({ name, method }: Variant, methodTitle: string): string {
  if (name === method) return methodTitle;
  if (!name.startsWith(`${method}:`)) return name;
  return `${methodTitle} (${name.slice(method.length + 1).replaceAll('=', ' ').replaceAll(':', ', ')})`;
}

/** A number or a truth value where the text is one. */
function scalarOf(value: string): unknown {
  if (value === 'true' || value === 'false') return value === 'true';
  return value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
}

function put(target: Record<string, unknown>, key: string, value: unknown): void {
  // also for `__proto__`, which an assignment would swallow
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
}
