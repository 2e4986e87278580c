/** The routes of the server: what is bounded, counted, and answered with which status. */
import { basename } from 'node:path';
import multipart from '@fastify/multipart';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { type Prediction, type RunSet, ScionError, version } from '../index.js';
import { Admission, type Place } from './admission.js';
import { RequestError, refusalOf, tooLarge } from './answers.js';
import { openMetrics } from './metrics.js';
import { askedOf, pictureOf } from './request.js';
import type { Settings } from './settings.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Of a request to classify. */
    place: Place | undefined;
  }
}

/** The routes over runs that are open; closing it closes them. */
export function application(runs: RunSet, settings: Settings): FastifyInstance {
  const { maxBodyBytes, timeout, onDefect } = settings;
  const app = Fastify({
    bodyLimit: maxBodyBytes,
    requestTimeout: timeout * 1000,
    // Node would exchange the two where headers had more time than the whole, and looks for late ones every 30 s
    http: { headersTimeout: timeout * 1000, connectionsCheckingInterval: 1000 },
    forceCloseConnections: 'idle',
  });
  const admission = new Admission(settings.concurrency);
  const metrics = openMetrics(() => admission.busy);
  let closing = false;

  app.decorateRequest('place', undefined);
  app.addHook('preClose', (done) => {
    closing = true;
    done();
  });
  // a connection that was busy when the server began to close would otherwise be kept for the next request
  app.addHook('onSend', (_, reply, payload, done) => {
    if (closing) void reply.header('connection', 'close');
    done(null, payload);
  });
  app.addHook('onClose', async () => {
    await runs.close();
    metrics.close();
  });
  app.addHook('onResponse', (request, reply, done) => {
    metrics.answered(request.routeOptions.url ?? 'unknown', reply.statusCode, reply.elapsedTime / 1000);
    done();
  });
  app.setNotFoundHandler((request, reply) => refuse(reply, new RequestError(404,
    `there is no ${request.method} ${request.url.split('?')[0]!.slice(0, 100)}; there are POST /classify, GET /runs, `
    + 'GET /health and GET /metrics')));
  // the rest of a body that is refused is read and dropped, since closing at once could cost its sender the answer
  app.setErrorHandler((error, _, reply) => {
    const refusal = refusalOf(error, settings);
    if (!refusal) onDefect?.(error);
    return refuse(reply, refusal ?? new RequestError(500, 'the server failed; its log says how'));
  });

  app.get('/health', (_, reply) =>
    reply.code(closing ? 503 : 200).send({ status: closing ? 'closing' : 'ok', version, runs: [...runs.runs.keys()] }));
  app.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
  app.get('/runs', () => ({
    runs: [...runs.runs].map(([name, info]) => ({
      // the name alone: where it lies is nobody's business
      name, method: info.method, model: info.pictures && basename(info.pictures.model.name), classes: info.class_names,
    })),
  }));
  void app.register((scope, _, done) => {
    classifyRoute(scope, { runs, settings, admission, predicted: metrics.predicted });
    done();
  });
  return app;
}

const refuse = (reply: FastifyReply, { status, message }: RequestError): FastifyReply =>
  reply.code(status).send({ error: message });

interface Classifying {
  runs: RunSet;
  settings: Settings;
  admission: Admission;
  predicted: (run: string, label: string | null) => void;
}

/** What a form adds to the picture in it: boundaries and headers. */
const formBytes = 64 * 1024;

/** The one route that is bounded, with the bodies that it takes. */
function classifyRoute(app: FastifyInstance, { runs, settings, admission, predicted }: Classifying): void {
  const { maxBodyBytes, maxPixels, timeout } = settings;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(/^(image\/|application\/octet-stream)/i, { parseAs: 'buffer' },
    (_, body, done) => done(null, body));
  void app.register(multipart, {
    limits: { files: 1, fields: 10, fieldSize: 1000, parts: 11, fileSize: maxBodyBytes, headerPairs: 20 },
  });
  app.addHook('onRequest', async (request, reply) => {
    const place = admission.enter();
    if (!place) {
      void reply.header('retry-after', '1');
      throw new RequestError(503, `all ${admission.places} places are taken; try again in a second`);
    }
    request.place = place;
    reply.raw.once('close', place.leave);
    if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes + formBytes) throw tooLarge(settings);
  });
  app.post('/classify', async (request, reply) => {
    const asked = askedOf(request.query as Record<string, unknown>);
    const picture = await pictureOf(request);
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const work = runs.classify(picture, { ...asked, maxPixels, signal: gone.signal });
    const found = await within(timeout, request.place!.hold(work), gone);
    const predictions = [...found].map(([run, prediction]): { run: string } & Prediction => {
      predicted(run, prediction.label);
      return { run, ...prediction };
    });
    return { predictions };
  });
}

/** The result of the work, unless it takes longer; what has not begun by then does not begin. */
async function within<T>(seconds: number, work: Promise<T>, gone: AbortController): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  work.catch(() => undefined); // it may fail after its time is over, when nobody waits
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      gone.abort();
      reject(new RequestError(504, `the picture took longer than ${seconds} s`));
    }, seconds * 1000);
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    if (gone.signal.aborted && !(error instanceof RequestError || error instanceof ScionError)) {
      throw new RequestError(499, 'the client has gone');
    }
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
