/** What a file is, by its first bytes: its name may say anything. */

/** The kinds that are decoded. */
export type ImageKind = 'JPEG' | 'PNG' | 'GIF' | 'WebP' | 'AVIF' | 'SVG';

/** By their beginning as Latin-1 text. */
const kinds: readonly (readonly [ImageKind, RegExp])[] = [
  ['JPEG', /^\xff\xd8\xff/],
  ['PNG', /^\x89PNG\r\n\x1a\n/],
  ['GIF', /^GIF8[79]a/],
  ['WebP', /^RIFF[^]{4}WEBP/],
  ['AVIF', /^[^]{4}ftyp(avi[fs]|(mif1|msf1|miaf)[^]{0,40}avi[fs])/],
];

const others: readonly (readonly [string, RegExp])[] = [
  ['an HTML page', /^\s*<(!doctype html|html)/i],
  ['a TIFF image', /^(II\*\0|MM\0\*)/],
  ['a BMP image', /^BM[^]{4}\0\0\0\0/],
  ['a HEIC image', /^[^]{4}ftyp(hei|hev|mif1|msf1)/],
  ['a JPEG XL image', /^(\xff\x0a|\0\0\0\x0cJXL )/],
  ['a JPEG 2000 image', /^\0\0\0\x0cjP {2}/],
  ['a video', /^([^]{4}ftyp|\x1aE\xdf\xa3|RIFF[^]{4}AVI )/],
  ['a PDF document', /^%PDF/],
  ['a ZIP archive', /^PK\x03\x04/],
  ['a gzip archive', /^\x1f\x8b/],
  ['a Git LFS pointer, not the picture itself', /^version https:\/\/git-lfs/],
];

const headBytes = 4096;

/** The kind of picture, or in words what it is instead. */
export function kindOf(bytes: Uint8Array): { kind: ImageKind } | { other: string } {
  if (bytes.byteLength === 0) return { other: 'an empty file' };
  const head = String.fromCharCode(...bytes.subarray(0, headBytes));
  const kind = kinds.find(([, pattern]) => pattern.test(head));
  if (kind) return { kind: kind[0] };
  const other = others.find(([, pattern]) => pattern.test(head));
  if (other) return { other: other[0] };
  if (!isText(bytes.subarray(0, headBytes))) return { other: 'a file of unknown kind' };
  // the root element, after whatever declarations and comments
  const root = /^(\xef\xbb\xbf)?\s*(<\?[^]*?\?>\s*|<!--[^]*?-->\s*|<![^>]*>\s*|\]>\s*)*<([\w.-]+:)?svg[\s>/]/;
  if (root.test(head) || /^\s*<[^]*<svg[\s>]/.test(head)) return { kind: 'SVG' };
  return { other: 'a text file' };
}

function isText(bytes: Uint8Array): boolean {
  if (bytes.some((b) => b < 9 || (b > 13 && b < 32 && b !== 27))) return false;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true }); // the last character may be cut
    return true;
  } catch {
    return false;
  }
}
