/** What is wrong with a request, as a status and a message. Nothing else of an error leaves the server. */
import { ScionError } from '../index.js';

/** A request that cannot be answered, with the HTTP status that says so. */
export class RequestError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** Fastify's own refusals, by their codes. */
const refusals: Readonly<Record<string, (limits: Limits) => RequestError>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: (limits) => tooLarge(limits),
  FST_REQ_FILE_TOO_LARGE: (limits) => tooLarge(limits),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: () => new RequestError(415, 'expected a body of type image/* or multipart/form-data'),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: () => new RequestError(400, 'the body is not as long as content-length says'),
  FST_FILES_LIMIT: () => new RequestError(413, 'expected one picture in a request'),
  FST_PARTS_LIMIT: () => new RequestError(413, 'expected one picture in a request'),
  FST_FIELDS_LIMIT: () => new RequestError(413, 'expected one picture in a request'),
  FST_NO_FORM_DATA: () => new RequestError(400, 'the multipart body has no parts; send the picture as one'),
};

export interface Limits {
  readonly maxBodyBytes: number;
}

export const tooLarge = ({ maxBodyBytes }: Limits): RequestError =>
  new RequestError(413, `the body is too large, expected at most ${maxBodyBytes} bytes`);

/** The refusal that an error stands for; undefined for what is no fault of the request. */
export function refusalOf(error: unknown, limits: Limits): RequestError | undefined {
  if (error instanceof RequestError) return error;
  if (error instanceof ScionError) return error.kind === 'io' ? undefined : new RequestError(400, error.message);
  const { code, statusCode, message } = error as { code?: unknown; statusCode?: unknown; message: string };
  if (typeof code === 'string' && Object.hasOwn(refusals, code)) return refusals[code]!(limits);
  const client = typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500;
  return client ? new RequestError(statusCode, message.split('\n')[0]!) : undefined;
}
