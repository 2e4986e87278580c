/**
 * The scan that every SVG passes before it is drawn. The drawing library neither runs scripts nor opens other files
 * when it is handed bytes; this scan does not rely on that, and says what is wrong instead of drawing half of it.
 */
import { inputError } from '../util/errors.js';

const name = '[\\p{L}_:][\\p{L}\\p{N}_:.\\-]*';
const tagOpen = new RegExp(`</?(${name})`, 'uy');
const attribute = new RegExp(`\\s+(${name})\\s*=\\s*(?:"([^"<]*)"|'([^'<]*)')`, 'uy');
const tagClose = /\s*\/?>/y;

/** Elements that bring in a script or another document. */
const forbidden = new Set([
  'script', 'foreignobject', 'iframe', 'object', 'embed', 'audio', 'video', 'handler', 'listener', 'include', 'import',
]);
/** Attributes whose value is an address. */
const address = /^(href|src|base|data|action|formaction)$/i;
/** Addresses within the file: a fragment, or a bitmap (not a second SVG, which would need a scan of its own). */
const inside = /^\s*(#|data:image\/(png|jpeg|gif|webp);base64,|$)/i;
/** The plain line that drawing programs write; without an internal subset it defines nothing. */
const plainDoctype = /^<!DOCTYPE\s+svg(\s+PUBLIC\s+"-\/\/W3C\/\/DTD SVG [^"[]*"\s+"[^"[]*")?\s*>$/;

/**
 * Refuses an SVG that has a script, an event handler, an entity, or a reference to anything outside of itself.
 * @param where the file, for messages
 * @throws ScionError of kind `input`
 */
export function checkSvg(bytes: Uint8Array, where: string): void {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw inputError(where, 'the SVG is not UTF-8 text; save it as UTF-8 or convert the drawing to PNG', { cause });
  }
  new Scan(text, where).run();
}

class Scan {
  private at = 0;
  private inStyle = false;

  constructor(private readonly text: string, private readonly where: string) {}

  run(): void {
    while (this.at < this.text.length) {
      if (this.text[this.at] !== '<') this.content(this.upTo('<', true));
      else if (this.sees('<!--')) this.upTo('-->');
      else if (this.sees('<![CDATA[')) this.content(this.upTo(']]>').slice('<![CDATA['.length, -']]>'.length));
      else if (this.sees('<?')) this.instruction(this.upTo('?>'));
      else if (!this.sees('<!')) this.tag();
      else if (!plainDoctype.test(this.upTo('>'))) this.refuse('a document type that defines entities (<!DOCTYPE …>)');
    }
  }

  private sees(mark: string): boolean {
    return this.text.startsWith(mark, this.at);
  }

  /** The text up to and including `mark`, which is passed; `before` stops short of it, at worst at the end. */
  private upTo(mark: string, before = false): string {
    const found = this.text.indexOf(mark, this.at);
    if (found < 0 && !before) this.broken();
    const end = found < 0 ? this.text.length : found + (before ? 0 : mark.length);
    const passed = this.text.slice(this.at, end);
    this.at = end;
    return passed;
  }

  private instruction(text: string): void {
    if (/^<\?xml-stylesheet/i.test(text)) this.refuse('an external style sheet (<?xml-stylesheet?>)');
    if (/^<\?xml\s.*\bencoding\s*=\s*["'](?!utf-?8["'])/is.test(text)) this.refuse('another encoding than UTF-8');
  }

  private tag(): void {
    tagOpen.lastIndex = this.at;
    const found = tagOpen.exec(this.text) ?? this.broken();
    const element = local(found[1]!).toLowerCase();
    if (forbidden.has(element)) this.refuse(`the element <${found[1]}>`);
    if (element === 'style') this.inStyle = !found[0].startsWith('</');
    let end = tagOpen.lastIndex;
    for (;;) {
      attribute.lastIndex = end;
      const [, key, double, single] = attribute.exec(this.text) ?? [];
      if (key === undefined) break;
      this.attribute(key, this.resolve(double ?? single ?? ''));
      end = attribute.lastIndex;
    }
    tagClose.lastIndex = end;
    if (!tagClose.test(this.text)) this.broken();
    this.at = tagClose.lastIndex;
  }

  private attribute(key: string, value: string): void {
    if (/^xmlns(:|$)/.test(key)) return;
    const shown = `${key}="${value.slice(0, 40)}"`;
    const what = local(key);
    if (/^on/i.test(what)) this.refuse(`the event handler ${shown}`);
    if (address.test(what) && !inside.test(value)) this.refuse(`the external reference ${shown}`);
    if (/^attributeName$/i.test(what) && address.test(local(value.trim()))) this.refuse(`the animation ${shown}`);
    if (!key.includes(':')) this.style(value); // what has a prefix belongs to a drawing program, not to the style
  }

  private content(text: string): void {
    const resolved = this.resolve(text);
    if (this.inStyle) this.style(resolved);
  }

  private style(value: string): void {
    const css = value.replace(/\/\*[^]*?\*\//g, '');
    if (css.includes('\\')) this.refuse('a style with escaped characters');
    if (/@\s*import/i.test(css)) this.refuse('a style sheet with @import');
    for (const [, target = ''] of css.matchAll(/\burl\s*\(\s*["']?([^)]*)/gi)) {
      if (!inside.test(target)) this.refuse(`the external reference url(${target.slice(0, 40)})`);
    }
  }

  /** The text with its character references resolved; only XML's own five entities have a name. */
  private resolve(text: string): string {
    const reference = /&(?:#(\d+)|#x([\da-f]+)|([^;&\s]+));/gi;
    return text.replace(reference, (all, decimal?: string, hex?: string, entity?: string) => {
      if (entity !== undefined) return entities.get(entity) ?? this.refuse(`the entity ${all.slice(0, 40)}`);
      const code = decimal === undefined ? parseInt(hex!, 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : this.refuse(`the character ${all.slice(0, 40)}`);
    });
  }

  private refuse(what: string): never {
    throw inputError(this.where, `the SVG has ${what}, expected a drawing that stands on its own; `
      + 'remove it, or convert the drawing to PNG');
  }

  private broken(): never {
    const shown = JSON.stringify(this.text.slice(this.at, this.at + 30));
    throw inputError(this.where, `the SVG is not well-formed at ${shown}; mend it, or convert the drawing to PNG`);
  }
}

const entities = new Map([['lt', '<'], ['gt', '>'], ['amp', '&'], ['quot', '"'], ['apos', "'"]]);

/** Without the namespace prefix, which a file may choose as it likes. */
function local(qualified: string): string {
  return qualified.slice(qualified.lastIndexOf(':') + 1);
}
