/** What a request to classify asks for: a picture in its body, and in its query which runs and how. */
import type { FastifyRequest } from 'fastify';
import { RequestError } from './answers.js';

/** The bytes of the picture: the body itself, or the first file of a form. */
export async function pictureOf(request: FastifyRequest): Promise<Uint8Array> {
  if (request.isMultipart()) {
    const file = await request.file();
    if (!file) throw new RequestError(400, 'the form has no picture; send one file');
    return file.toBuffer();
  }
  if (Buffer.isBuffer(request.body) && request.body.length > 0) return request.body;
  throw new RequestError(400, 'there is no body; send the bytes of a picture as image/* or in a form');
}

/** `?run=a&run=b&top=3&reject=0.95` */
export function askedOf(query: Record<string, unknown>): { runs?: string[]; top?: number; reject?: number } {
  const known = ['run', 'top', 'reject'];
  const unknown = Object.keys(query).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    const name = JSON.stringify(unknown.slice(0, 100));
    throw new RequestError(400, `unknown parameter ${name}; known: ${known.join(', ')}`);
  }
  const number = (key: string, fits: (x: number) => boolean, expected: string): number | undefined => {
    const text = query[key];
    if (text === undefined) return undefined;
    const x = typeof text === 'string' && text.trim() !== '' ? Number(text) : NaN;
    if (fits(x)) return x;
    throw new RequestError(400, `${key}: ${JSON.stringify(text).slice(0, 100)}, expected ${expected}`);
  };
  const top = number('top', (x) => Number.isInteger(x) && x > 0, 'a whole number from 1 on');
  const reject = number('reject', (x) => x > 0 && x <= 1, 'the share of known pictures to keep, above 0 and up to 1');
  const run = query['run'];
  return {
    ...(run === undefined ? {} : { runs: [...new Set([run].flat().map(String))] }),
    ...(top === undefined ? {} : { top }),
    ...(reject === undefined ? {} : { reject }),
  };
}
