/**
 * A small hub on 127.0.0.1 for tests: models with revisions, the interface that clients of the hub use, large files
 * behind a redirect to another server, and faults on demand. It needs nothing but Node.
 */
import { createHash } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** Content by path. */
export type Files = Readonly<Record<string, Buffer | string>>;

export interface HubModel {
  /** Files by branch or tag. */
  revisions: Readonly<Record<string, Files>>;
  /** Only handed out with this token. */
  token?: string;
  gated?: boolean;
}

/** What goes wrong with the next `times` requests whose address matches. */
export interface Fault {
  match: RegExp;
  times?: number;
  /** Answered instead; the body is empty unless given. */
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  /** The connection is cut after this many bytes of the body. */
  cut?: number;
  /** Silence after this many bytes. */
  stall?: number;
  /** The content that is sent instead. */
  content?: Buffer;
  /** Ranges are ignored. */
  whole?: boolean;
}

export interface Seen {
  server: 'hub' | 'store';
  method: string;
  url: string;
  authorization: string | undefined;
  range: string | undefined;
}

export interface TestHub {
  readonly endpoint: string;
  readonly models: Map<string, HubModel>;
  readonly faults: Fault[];
  readonly seen: Seen[];
  /** Files of an etag that the list gives instead of the true one, by path. */
  readonly lies: Map<string, { oid?: unknown; size?: unknown; path?: string }>;
  /** Entries of a list on one page. */
  page: number;
  commit(id: string, revision?: string): string;
  close(): Promise<void>;
}

const isLarge = (path: string): boolean => /\.(safetensors|bin)$/.test(path);
const hashed = (name: 'sha1' | 'sha256', ...parts: (Buffer | string)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash(name)).digest('hex');
const blobOid = (content: Buffer): string => hashed('sha1', `blob ${content.length}\0`, content);
const contents = (files: Files): [string, Buffer][] =>
  Object.entries(files).map(([path, content]) => [path, Buffer.from(content as Buffer)]);
/** Git's pointer file in place of a large one. */
const pointer = (content: Buffer): Buffer => Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:' +
  `${hashed('sha256', content)}\nsize ${content.length}\n`);
const commitOf = (files: Files): string =>
  hashed('sha1', ...contents(files).sort().map(([path, content]) => `${path} ${blobOid(content)}\n`));

/** Starts the hub and the server that it keeps large files on. */
export async function startHub(models: Readonly<Record<string, HubModel>> = {}): Promise<TestHub> {
  const sockets = new Set<Socket>();
  const open = async (name: Seen['server'], answer: (url: URL, request: IncomingMessage, response: ServerResponse,
    fault: Fault | undefined) => void): Promise<{ server: Server; address: string }> => {
    const server = createServer((request, response) => {
      const url = new URL(request.url!, 'http://hub');
      const { authorization, range } = request.headers;
      hub.seen.push({ server: name, method: request.method!, url: request.url!, authorization, range });
      const fault = hub.faults.find((f) => f.match.test(`${name}:${request.url}`) && f.times !== 0);
      if (fault?.times !== undefined) fault.times--;
      if (fault?.status !== undefined) response.writeHead(fault.status, fault.headers).end(fault.body);
      else answer(url, request, response, fault);
    });
    server.on('connection', (socket) => sockets.add(socket));
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    return { server, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  };
  const hub: Omit<TestHub, 'endpoint'> = {
    models: new Map(Object.entries(models)), faults: [], seen: [], lies: new Map(), page: 1000,
    commit: (id, revision = 'main') => commitOf(hub.models.get(id)!.revisions[revision]!),
    async close() {
      for (const socket of sockets) socket.destroy();
      await Promise.all([front, store].map(({ server }) => new Promise((resolve) => { server.close(resolve); })));
    },
  };
  const store = await open('store', (url, request, response, fault) => {
    const all = [...hub.models.values()].flatMap((m) => Object.values(m.revisions).flatMap(contents));
    const found = all.find(([, content]) => hashed('sha256', content) === url.pathname.slice(1));
    if (found) send(request, response, found[1], { ETag: '"of-the-store"' }, fault);
    else response.writeHead(404).end();
  });
  const front = await open('hub', (url, request, response, fault) => {
    const refuse = (status: number, code: string): void => {
      const message = { 'X-Error-Code': code, 'X-Error-Message': `${code} here`, 'Content-Type': 'application/json' };
      response.writeHead(status, message).end(JSON.stringify({ error: code }));
    };
    const [, api, id, kind, revision = 'main', path = ''] =
      /^(?:\/(api)\/models)?\/([\w.-]+\/[\w.-]+)\/(resolve|revision|tree)\/([^/]+)\/?(.*)$/.exec(url.pathname) ?? [];
    const model = hub.models.get(id ?? '');
    const given = request.headers.authorization?.slice('Bearer '.length);
    // the hub does not say whether a model is private or not there
    if (!model || (model.token !== undefined && given !== model.token)) {
      return refuse(given === undefined ? 401 : 404, 'RepoNotFound');
    }
    if (model.gated && kind === 'resolve') return refuse(403, 'GatedRepo');
    const name = decodeURIComponent(revision);
    const files = model.revisions[name] ?? Object.values(model.revisions).find((f) => commitOf(f) === name);
    if (!files) return refuse(404, 'RevisionNotFound');
    const json = (value: unknown, headers = {}): void => {
      send(request, response, Buffer.from(JSON.stringify(value)), { 'Content-Type': 'application/json', ...headers }, fault);
    };
    const commit = commitOf(files);
    if (api && kind === 'revision') {
      return json({ _id: id, id, modelId: id, sha: commit, private: model.token !== undefined, gated: false, tags: [],
        downloads: 0, likes: 0, lastModified: '2026-01-01T00:00:00.000Z', createdAt: '2026-01-01T00:00:00.000Z',
        siblings: Object.keys(files).map((rfilename) => ({ rfilename })) });
    }
    if (api && kind === 'tree') {
      const start = Number(url.searchParams.get('cursor') ?? 0);
      const entries = contents(files).map(([path, content]) => ({
        type: 'file', path, size: content.length, oid: isLarge(path) ? blobOid(pointer(content)) : blobOid(content),
        ...(isLarge(path) ? { lfs: { oid: hashed('sha256', content), size: content.length, pointerSize: 130 } } : {}),
        ...hub.lies.get(path),
      }));
      url.searchParams.set('cursor', String(start + hub.page));
      const more = start + hub.page < entries.length;
      return json(entries.slice(start, start + hub.page),
        more ? { Link: `<${front.address}${url.pathname}${url.search}>; rel="next"` } : {});
    }
    const content = contents(files).find(([file]) => file === decodeURIComponent(path))?.[1];
    if (api || !content) return refuse(404, 'EntryNotFound');
    const etag = `"${isLarge(path) ? hashed('sha256', content) : blobOid(content)}"`;
    const headers = { 'X-Repo-Commit': commit };
    if (!isLarge(path)) return send(request, response, content, { ...headers, ETag: etag }, fault);
    response.writeHead(302, { ...headers, 'X-Linked-Etag': etag, 'X-Linked-Size': content.length,
      Location: `${store.address}/${hashed('sha256', content)}` }).end();
  });
  return Object.assign(hub, { endpoint: front.address });
}

function send(
  request: IncomingMessage, response: ServerResponse, content: Buffer, headers: Record<string, string>,
  fault: Fault | undefined,
): void {
  const sent = fault?.content ?? content;
  const [, first] = (fault?.whole ? null : /^bytes=(\d+)-/.exec(request.headers.range ?? '')) ?? [];
  const start = Number(first ?? 0);
  if (start >= sent.length && start > 0) {
    response.writeHead(416, { 'Content-Range': `bytes */${sent.length}` }).end();
    return;
  }
  const range = first === undefined ? {} : { 'Content-Range': `bytes ${start}-${sent.length - 1}/${sent.length}` };
  const length = { 'Content-Length': String(sent.length - start), 'Accept-Ranges': 'bytes' };
  response.writeHead(first === undefined ? 200 : 206, { ...headers, ...length, ...range, ...fault?.headers });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  const stop = fault?.cut ?? fault?.stall;
  if (stop === undefined) {
    response.end(sent.subarray(start));
    return;
  }
  response.write(sent.subarray(start, start + stop), () => {
    if (fault?.cut !== undefined) setTimeout(() => response.destroy(), 20); // what was written is on its way by then
  });
}
