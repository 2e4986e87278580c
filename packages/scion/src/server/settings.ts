/** What a server can be told, and what it is where nobody says. */
import type { RunSetOptions } from '../index.js';

export interface ServeOptions extends RunSetOptions {
  /** Default 127.0.0.1: this machine alone. */
  host?: string | undefined;
  /** 0 takes any free port. Default 8080. */
  port?: number | undefined;
  /** Largest body. Default 20 MiB. */
  maxBodyBytes?: number | undefined;
  /** Most pixels (width × height) of a picture. Default 25 million. */
  maxPixels?: number | undefined;
  /** Requests to classify that are worked on at once; further ones get 503. Default 16. */
  concurrency?: number | undefined;
  /** Seconds for a body to arrive, and for the work on it. Default 30. */
  timeout?: number | undefined;
  /** Told of defects: what a client got as 500, in full. */
  onDefect?: ((error: unknown) => void) | undefined;
}

const mebibyte = 2 ** 20;
export const serveDefaults = {
  host: '127.0.0.1', port: 8080, maxBodyBytes: 20 * mebibyte, maxPixels: 25_000_000, concurrency: 16, timeout: 30,
} as const;

/** All that is not left to others has a value. */
export type Settings = ServeOptions & { [K in keyof typeof serveDefaults]: NonNullable<ServeOptions[K]> };
