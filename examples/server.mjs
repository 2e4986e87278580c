// A classifier over HTTP on the features of a run's backbone, with nothing but Node and Scion:
//
//   node examples/server.mjs runs/icons 8080
//   curl localhost:8080                                     → the classes and how wide a feature is
//   curl localhost:8080 -d '{"features": [[0.1, …]]}'       → {"predictions": [{"label": …, "classes": […]}]}
import { createServer } from 'node:http';
import { ScionError, loadRun } from 'scion-peft';

const [folder, port = '8080'] = process.argv.slice(2);
if (folder === undefined) {
  console.error('usage: node examples/server.mjs <run folder> [port]');
  process.exit(2);
}
const largestBody = 16 * 2 ** 20;
const run = await loadRun(folder).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(error.exitCode ?? 1);
});

/** What is wrong with a request, with the HTTP status that says so. */
class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function body(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > largestBody) throw new RequestError(413, `the body is over ${largestBody} bytes; send fewer rows`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RequestError(400, 'the body is no JSON, expected {"features": [[numbers], …], "top": 5}');
  }
}

async function answer(request) {
  if (request.method === 'GET') return { method: run.info.method, dim: run.info.dim, classes: run.classNames };
  if (request.method !== 'POST') throw new RequestError(405, `${request.method}: expected GET or POST`);
  const { features, top = 5 } = (await body(request)) ?? {};
  const rows = Array.isArray(features) && features.length > 0
    && features.every((row) => Array.isArray(row) && row.every((x) => typeof x === 'number'));
  if (!rows) throw new RequestError(400, `features: expected rows of ${run.info.dim} numbers`);
  if (!Number.isInteger(top) || top < 1) throw new RequestError(400, 'top: expected a whole number from 1 on');
  return { predictions: await run.predict(features, { top }) };
}

const server = createServer((request, response) => {
  answer(request).then(
    (value) => [200, value],
    (error) => {
      const status = error instanceof RequestError ? error.status : error instanceof ScionError ? 400 : 500;
      if (status === 500) console.error(error);
      return [status, { error: status === 500 ? 'the server failed' : error.message }];
    },
  ).then(([status, value]) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`);
  });
});
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));

// open connections are answered before the model goes
process.once('SIGTERM', () => server.close(() => run.close()));
process.once('SIGINT', () => server.close(() => run.close()));
