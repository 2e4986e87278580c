/** What a runtime offers: sessions that run compiled programs and keep state between runs. */
import type { OnnxModel } from '../onnx/encode.js';
import type { Tensor } from '../util/tensor.js';

export type Tensors = Record<string, Tensor>;

/** What ONNX Runtime may compute on, by the names of its execution providers. */
export const devices = ['cpu', 'webgpu', 'cuda'] as const;
export type Device = (typeof devices)[number];

export interface SessionOptions {
  /** Threads of one operator; the number of physical cores where absent. */
  threads?: number;
  /** Lets ONNX Runtime keep a second, repacked copy of constant weights: a little faster, a third more memory. */
  prepack?: boolean;
  /** Writes ONNX Runtime's profile to a file with this prefix when the session is released. */
  profile?: string;
}

export interface RunOptions {
  /** Names of the outputs to hand back; all where absent. */
  fetch?: readonly string[];
  /** Output → input: the output stays inside the session and is that input of the next run. */
  carry?: Readonly<Record<string, string>>;
}

/** A loaded program. Runs do not overlap; a run that is asked for while another goes waits its turn. */
export interface Session {
  run(feeds: Tensors, options?: RunOptions): Promise<Tensors>;
  /** Sets inputs that stay the same (or are carried) from run to run. */
  hold(tensors: Tensors): Promise<void>;
  /** The present values of held inputs. */
  held(names: readonly string[]): Promise<Tensors>;
  /**
   * Gives another session of this runtime the present values of held inputs as its own, under the same names. They do
   * not leave the runtime.
   */
  share(names: readonly string[], to: Session): Promise<void>;
  /** Frees the session's memory. Must be called; a released session refuses to run. */
  release(): Promise<void>;
}

export interface Runtime {
  /** Throws a readable error where the model is refused. */
  load(model: OnnxModel, options?: SessionOptions): Promise<Session>;
  /** Releases every session and the thread behind them. */
  close(): Promise<void>;
}
