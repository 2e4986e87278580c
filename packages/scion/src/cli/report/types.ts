/** What `scion compare` measured: the data behind its report. */

/** One trained and tested cell of the comparison. */
export interface CompareCell {
  method: string;
  /** Labelled images per class. */
  shots: number;
  seed: number;
  /** On the test split, 0 … 1. */
  accuracy: number;
  /** Expected calibration error on the test split, 0 … 1. */
  ece: number;
  trainableParameters: number;
  /** Wall time of training and testing. */
  seconds: number;
  hyperparameters: Record<string, unknown>;
}

/** A compared method, by its registry name. */
export interface CompareMethod {
  name: string;
  title: string;
  /** An address or a citation. */
  paper?: string;
}

/** A whole comparison. Cells may be missing: a stopped run has fewer than methods × shots × seeds. */
export interface CompareResult {
  /** ISO date. */
  created: string;
  scionVersion: string;
  features: {
    path: string;
    digest: string;
    model?: string;
    classes: number;
    /** Length of a feature vector. */
    dim: number;
    /** Images in the train split. */
    train: number;
    /** Images in the test split. */
    test: number;
  };
  recipe: Record<string, unknown>;
  environment: Record<string, string>;
  methods: CompareMethod[];
  shots: number[];
  seeds: number[];
  cells: CompareCell[];
  warnings: string[];
}
