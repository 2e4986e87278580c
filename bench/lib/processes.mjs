// The line protocol of the benchmarks: one JSON request per line on stdin, one JSON answer per line on stdout.
import { spawn } from 'node:child_process';
import readline from 'node:readline';

/**
 * Starts a side of a benchmark in a process of its own.
 * @param {string} command
 * @param {string[]} args
 */
export function start(command, args) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  let failure = '';
  child.on('error', (error) => { failure = error.message; });
  child.stdin.on('error', () => {}); // a child that is gone shows as the end of its answers
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    pid: child.pid,
    /** Sends one request and waits for its answer; throws where the side answers with an error. */
    async ask(op, request = {}) {
      child.stdin.write(`${JSON.stringify({ op, ...request })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${command} ${args.join(' ')} ended during ${op}${failure && `: ${failure}`}`);
      const answer = JSON.parse(value);
      if (!answer.ok) throw new Error(answer.error ?? `${op}: refused`);
      return answer;
    },
    async quit() {
      const ended = child.exitCode ?? new Promise((resolve) => { child.once('close', resolve); });
      child.stdin.end();
      await ended;
    },
  };
}

/**
 * Answers requests until stdin ends.
 * @param {Record<string, (request: any) => unknown>} ops
 */
export async function serve(ops) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, ...request } = JSON.parse(line);
    let answer;
    try {
      if (!(op in ops)) throw new Error(`op ${op}: expected one of ${Object.keys(ops).join(', ')}`);
      answer = { ok: true, ...await ops[op](request) };
    } catch (error) {
      answer = { ok: false, error: String(error.stack ?? error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

/**
 * Starts a PyTorch peer, or says why there is none.
 * @param {string} script path of the script
 * @param {object} load the first request
 * @returns {Promise<{ peer?: ReturnType<typeof start>, torch?: string, missing?: string }>}
 */
export async function startPeer(python, script, load) {
  const peer = start(python, [script]);
  try {
    return { peer, torch: (await peer.ask('load', load)).torch };
  } catch (error) {
    await peer.quit();
    const missing = error.message === 'no torch' || /ENOENT/.test(error.message);
    if (!missing) throw error;
    return { missing: `${python} has not what ${script} imports; pip install torch==2.13.0 safetensors (lora: transformers peft too), or choose with --python` };
  }
}
