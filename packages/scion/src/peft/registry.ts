/** All methods by name. A new one is registered by one line in `index.ts`. */
import { assert, unknownName } from '../util/errors.js';
import type { BackboneMethod } from './backbone-method.js';
import type { FeatureMethod } from './feature-method.js';

/** A classifier over frozen features, or an adapted backbone. */
export type Method = FeatureMethod | BackboneMethod;

const methods = new Map<string, Method>();

export function registerMethod(method: Method): void {
  assert(!methods.has(method.name), `two methods named ${method.name}`);
  methods.set(method.name, method);
}

export function methodNames(): string[] {
  return [...methods.keys()];
}

/** Throws a usage error at `path` with the nearest names. */
export function getMethod(name: string, path = '--method'): Method {
  const method = methods.get(name);
  if (!method) throw unknownName(path, 'method', name, methodNames());
  return method;
}

/** The names of those that need text features. */
export function needText(used: readonly Method[]): string[] {
  return [...new Set(used.filter((method) => method.needsText).map(({ name }) => name))];
}
