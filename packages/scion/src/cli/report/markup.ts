/** HTML that is escaped by construction: what is put into the template is text unless it is itself markup. */

/** A piece of finished HTML. Only `html` and `trusted` make one. */
export class Markup {
  constructor(private readonly source: string) {}

  toString(): string {
    return this.source;
  }
}

type Part = string | number | false | undefined | Markup | readonly Part[];

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&#39;' };

/**
 * Template tag: strings and numbers are escaped (also for quoted attributes), arrays joined, false and undefined left
 * out.
 */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Markup {
  return new Markup(String.raw({ raw: strings }, ...parts.map(render)));
}

/** Source that is known to be HTML: the output of a serializer, or a constant. */
export function trusted(source: string): Markup {
  return new Markup(source);
}

function render(part: Part): string {
  if (part instanceof Markup) return part.toString();
  if (typeof part === 'object') return part.map(render).join('');
  return String(part === false ? '' : part ?? '').replace(/[&<>"']/g, (c) => entities[c]!);
}
