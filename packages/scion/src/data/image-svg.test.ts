import { describe, expect, test } from 'vitest';
import { decodeImage } from './image-decode.js';
import { checkSvg } from './image-svg.js';

const open = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">';
const svg = (body: string): string => `${open}${body}</svg>`;
const check = (text: string): void => checkSvg(Buffer.from(text), 'a.svg');

describe('what stands on its own is drawn', () => {
  test.each([
    ['shapes', svg('<path d="M0 0h9v9z"/>')],
    ['what programs write in front', '\ufeff<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<!-- by hand -->\n'
      + '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
      + svg('<g/>')],
    ['their own attributes', '<svg xmlns="http://www.w3.org/2000/svg" xmlns:i="http://i" width="5" height="5" '
      + 'i:export-filename="C:\\pictures\\url(x).png"><title>a &lt; b &amp; c &#233;</title></svg>'],
    ['references within', svg('<defs><linearGradient id="g"/><path id="p" d="M0 0h3v3z"/></defs>'
      + '<use href="#p" xlink:href="#p" fill="url(#g)" style="stroke: url( \'#g\' )"/>')],
    ['a style sheet', svg('<style>/* url(http://x) */ .a { fill: url(#g) }</style>'
      + '<style><![CDATA[.b > .c { fill: red }]]></style>')],
    ['a bitmap', svg('<image width="1" height="1" href="data:image/png;base64,'
      + 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="/>')],
  ])('%s', async (_, text) => {
    expect((await decodeImage(Buffer.from(text))).width).toBeGreaterThanOrEqual(224);
  });
});

describe('what reaches out, or runs, is refused', () => {
  test.each([
    [svg('<script>alert(1)</script>'), 'the element <script>'],
    [svg('<x:script xmlns:x="http://www.w3.org/2000/svg"/>'), 'the element <x:script>'],
    [svg('<SCRIPT/>'), 'the element <SCRIPT>'],
    [svg('<foreignObject><p/></foreignObject>'), 'the element <foreignObject>'],
    [svg('<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" parse="text"/>'), 'the element <xi:include>'],
    [svg('<g onclick="x()"/>'), 'the event handler onclick="x()"'],
    [svg('<image href="http://example.com/a.png"/>'), 'the external reference href="http://example.com/a.png"'],
    [svg('<image xlink:href="/etc/passwd"/>'), 'the external reference xlink:href="/etc/passwd"'],
    [svg('<image xmlns:y="http://www.w3.org/1999/xlink" y:href="a.png"/>'), 'the external reference y:href'],
    [svg('<use href="&#104;ttp://x#y"/>'), 'the external reference href="http://x#y"'],
    [svg('<use href=\'other.svg#y\'/>'), 'the external reference href="other.svg#y"'],
    [svg('<image href="data:image/svg+xml;base64,AAAA"/>'), 'the external reference href="data:image/svg+xml'],
    [svg('<a href="javascript:x()"/>'), 'the external reference href="javascript:x()"'],
    [svg('<set attributeName="xlink:href" to="http://x"/>'), 'the animation attributeName="xlink:href"'],
    [svg('<g xml:base="http://x/"/>'), 'the external reference xml:base'],
    [svg('<g fill="url(http://x#a)"/>'), 'the external reference url(http://x#a)'],
    [svg('<g style="fill: URL (&quot;x.svg#a&quot;)"/>'), 'the external reference url(x.svg#a'],
    [svg('<g style="fill: u\\72l(x.svg#a)"/>'), 'a style with escaped characters'],
    [svg('<style>@import "x.css";</style>'), 'a style sheet with @import'],
    [svg('<style><![CDATA[@font-face { src: url(x.woff) }]]></style>'), 'the external reference url(x.woff)'],
    [`<?xml-stylesheet href="x.css"?>${svg('')}`, 'an external style sheet'],
    [`<!DOCTYPE svg [<!ENTITY a "b">]>${svg('&a;')}`, 'a document type that defines entities'],
    [`<!DOCTYPE svg SYSTEM "file:///etc/passwd">${svg('')}`, 'a document type that defines entities'],
    [svg('&secret;'), 'the entity &secret;'],
    [`<?xml version="1.0" encoding="UTF-7"?>${svg('')}`, 'another encoding than UTF-8'],
    [svg('<g fill=red/>'), 'not well-formed'],
    [`${open}<g`, 'not well-formed'],
    [svg('<!-- never closed'), 'not well-formed'],
  ])('%s', async (text, message) => {
    expect(() => check(text)).toThrow(message);
    expect(() => check(text)).toThrow(/^a\.svg: the SVG/);
    await expect(decodeImage(Buffer.from(text), { name: 'a.svg' })).rejects.toThrow(message);
  });

  test('bytes that are not UTF-8', () => {
    expect(() => checkSvg(Buffer.from(svg('<title>é</title>'), 'latin1'), 'a.svg')).toThrow('not UTF-8');
  });
});
