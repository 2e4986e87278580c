/** The ops and composites that layers and methods are written with. */
export * from '../ops/build.js';
export * from '../ops/composite.js';
