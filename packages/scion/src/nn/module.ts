/** A tree of modules with named parameters; paths are those of the Hugging Face checkpoints. */
import type { Value } from '../ir/graph.js';
import { assert } from '../util/errors.js';
import type { Tensor } from '../util/tensor.js';
import type { Parameter } from './parameter.js';

export abstract class Module {
  private readonly parts = new Map<string, Module>();
  private readonly own = new Map<string, Parameter>();

  /** Why adapters find fewer places than the model has, for messages. */
  get limitation(): string | undefined {
    return undefined;
  }

  /** Adds a child; a dotted name (`layers.0`) is one child. */
  protected child<M extends Module>(name: string, module: M): M {
    assert(!this.parts.has(name), `two children named ${name}`);
    this.parts.set(name, module);
    return module;
  }

  /** The child of this name, whatever an adapter has put there. */
  protected part<M extends Module>(name: string): M {
    const module = this.parts.get(name);
    assert(module, `no child named ${name}`);
    return module as M;
  }

  /** x through the child of this name, whatever an adapter has put there; its nodes get the child's path. */
  protected run(name: string, x: Value): Value {
    return x.graph.within(name, () => this.part<Module & { forward(x: Value): Value }>(name).forward(x));
  }

  /** Puts a module into a place that is empty in the checkpoint; `plugged` finds it there. */
  plug(place: string, module: Module): void {
    this.child(place, module);
  }

  /** What has been put into a place, if anything has. */
  protected plugged<M extends Module>(place: string): M | undefined {
    return this.parts.get(place) as M | undefined;
  }

  /** Puts another module in the place of the one at `path`; it is handed the old one. */
  replace(path: string, wrap: (old: Module) => Module): void {
    const own = this.parts.get(path);
    if (own) {
      this.parts.set(path, wrap(own));
      return;
    }
    for (const [name, module] of this.parts) {
      if (path.startsWith(`${name}.`)) return module.replace(path.slice(name.length + 1), wrap);
    }
    assert(false, `no module at ${path}`);
  }

  protected parameter(name: string, parameter: Parameter): Parameter {
    assert(!this.own.has(name), `two parameters named ${name}`);
    this.own.set(name, parameter);
    parameter.name = name;
    return parameter;
  }

  /** Every module below and this one, with its path. */
  *modules(path = ''): Generator<[string, Module]> {
    yield [path, this];
    for (const [name, module] of this.parts) yield* module.modules(path === '' ? name : `${path}.${name}`);
  }

  /** Every parameter with its full name. */
  *parameters(): Generator<[string, Parameter]> {
    for (const [path, module] of this.modules()) {
      for (const [name, p] of module.own) yield [path === '' ? name : `${path}.${name}`, p];
    }
  }

  /**
   * Makes frozen parameters of trained ones and settings, so that what depends on them is computed once: for programs
   * that only predict. Settings without a value keep their own.
   */
  freeze(values: Readonly<Record<string, Tensor>>): this {
    for (const [name, p] of this.parameters()) {
      if (p.origin.kind === 'frozen' || p.origin.kind === 'external') continue;
      const value = values[name] ?? (p.origin.kind === 'setting' ? p.origin.value : undefined);
      assert(value, `no value to freeze ${name} at`);
      p.origin = { kind: 'frozen', value };
    }
    return this;
  }

  /** Gives parameters other values, which no training changes, by their full names. */
  fix(values: ReadonlyMap<string, Tensor>): this {
    const all = new Map(this.parameters());
    for (const [name, value] of values) {
      const p = all.get(name);
      assert(p, `no parameter ${name} to fix`);
      p.origin = { kind: 'frozen', value };
    }
    return this;
  }

  /** Gives every parameter its full name. The root calls it once the tree stands. */
  named(): this {
    for (const [name, p] of this.parameters()) p.name = name;
    return this;
  }
}
