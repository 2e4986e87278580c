/** How many requests are worked on at once. More are refused at the door, before anything of them is read. */

/** A place that one request holds until it is answered and all work for it has ended, in whatever order. */
export interface Place {
  /** Keeps the place until this work has ended, though its answer may have been given before. */
  hold<T>(work: Promise<T>): Promise<T>;
  /** The request is answered, or its client has gone. */
  readonly leave: () => void;
}

export class Admission {
  private taken = 0;

  constructor(readonly places: number) {}

  /** Places that are taken. */
  get busy(): number {
    return this.taken;
  }

  /** A place, or undefined where none is free. */
  enter(): Place | undefined {
    if (this.taken >= this.places) return undefined;
    this.taken++;
    let reasons = 1;
    const drop = (): void => {
      if (--reasons === 0) this.taken--;
    };
    let here = true;
    return {
      hold: async (work) => {
        reasons++;
        try {
          return await work;
        } finally {
          drop();
        }
      },
      leave: () => {
        if (here) drop();
        here = false;
      },
    };
  }
}
