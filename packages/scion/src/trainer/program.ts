/** Opens compiled programs: the prologue is run once and its results held by the step's session. */
import { encodeModel } from '../onnx/encode.js';
import type { Graph } from '../ir/graph.js';
import type { Runtime, Session, SessionOptions, Tensors } from '../runtime/session.js';
import type { Program } from './compile.js';

function inputNames(graph: Graph): string[] {
  return graph.inputs.flatMap((v) => (v.source.kind === 'input' ? [v.source.name] : []));
}

function pick(tensors: Tensors, names: readonly string[]): Tensors {
  return Object.fromEntries(names.flatMap((name) => (tensors[name] ? [[name, tensors[name]]] : [])));
}

/**
 * Loads the step and gives it everything that does not come with a batch: the values of frozen parameters and
 * settings, the prologue's results, and `tensors` (frozen inputs that are no parameters, initial state).
 */
export async function openProgram(
  runtime: Runtime,
  program: Program,
  tensors: Tensors,
  options: SessionOptions = {},
): Promise<Session> {
  const values: Tensors = { ...parameterValues(program), ...tensors };
  const session = await runtime.load(encodeModel(program.step, 'step'), options);
  try {
    await session.hold(pick(values, inputNames(program.step)));
    if (program.prologue) {
      const prologue = await runtime.load(encodeModel(program.prologue, 'prologue'), options);
      try {
        const computed = [...program.prologue.outputs.keys()];
        // they stay in the runtime: each is carried to a held value of its own name, and that is shared
        const carry = Object.fromEntries(computed.map((name) => [name, name]));
        await prologue.run(pick(values, inputNames(program.prologue)), { carry, fetch: [] });
        await prologue.share(computed, session);
      } finally {
        await prologue.release();
      }
    }
  } catch (error) {
    await session.release();
    throw error;
  }
  return session;
}

/** What frozen parameters and settings start with. */
function parameterValues(program: Program): Tensors {
  return Object.fromEntries(
    program.parameters.flatMap((p) =>
      p.origin.kind === 'frozen' || p.origin.kind === 'setting' ? [[p.name, p.origin.value]] : [],
    ),
  );
}
