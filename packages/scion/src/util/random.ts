/**
 * Seeded random numbers. Every stream is addressed by a path of names, so that its numbers do not depend on how many
 * others were drawn before: the same seed gives the same run, also across a resume.
 *
 * The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
 * counter in, random bits out, no state but the counter.
 */
const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

/** Two random words for a key and a counter. */
export function threefry(k0: number, k1: number, c0: number, c1: number): [number, number] {
  const keys = [k0 | 0, k1 | 0, k0 ^ k1 ^ 0x1bd11bda];
  let x0 = (c0 + keys[0]!) | 0;
  let x1 = (c1 + keys[1]!) | 0;
  for (let round = 0; round < 20; round++) {
    const r = rotations[round % 8]!;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    if (round % 4 === 3) {
      const n = (round + 1) / 4;
      x0 = (x0 + keys[n % 3]!) | 0;
      x1 = (x1 + keys[(n + 1) % 3]! + n) | 0;
    }
  }
  return [x0 >>> 0, x1 >>> 0];
}

/** A stream of random numbers. Children are independent streams: `random.child('dropout', step)`. */
export class Random {
  private counter = 0;
  private spare: number | undefined;

  private constructor(private readonly k0: number, private readonly k1: number) {}

  /** @param seed any integer up to 2^53 */
  static seeded(seed: number): Random {
    return new Random(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
  }

  /** The stream with this name below this one; always the same for the same path. */
  child(...path: (string | number)[]): Random {
    let [a, b] = [this.k0, this.k1];
    for (const part of path) {
      const text = String(part);
      for (let i = 0; i < text.length; i++) [a, b] = threefry(a, b, text.charCodeAt(i), i);
      [a, b] = threefry(a, b, text.length, typeof part === 'number' ? 0xfffffffe : 0xffffffff);
    }
    return new Random(a, b);
  }

  /** 32 random bits, 0 … 2^32 - 1. */
  uint32(): number {
    if (this.spare !== undefined) {
      const word = this.spare;
      this.spare = undefined;
      return word;
    }
    const [a, b] = threefry(this.k0, this.k1, this.counter >>> 0, Math.floor(this.counter / 2 ** 32));
    this.counter++;
    this.spare = b;
    return a;
  }

  /** Uniform in [low, high), with 24 random bits: exact in float32. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * ((this.uint32() >>> 8) / 2 ** 24);
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** An integer in [0, n), without modulo bias. */
  integer(n: number): number {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let word = this.uint32();
    while (word >= limit) word = this.uint32();
    return word % n;
  }

  /** A shuffled copy (Fisher and Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }
}
