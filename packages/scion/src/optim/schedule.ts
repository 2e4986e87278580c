/** Learning-rate schedules: a factor for every step. */
export const schedules = {
  constant: () => 1,
  linear: (progress: number) => 1 - progress,
  cosine: (progress: number) => 0.5 * (1 + Math.cos(Math.PI * progress)),
  /** Constant, then linear to zero over the last fifth: until there, no step depends on how many there will be. */
  warmup_stable_decay: (progress: number) => Math.min(1, 5 * (1 - progress)),
} as const satisfies Record<string, (progress: number) => number>;

export type ScheduleName = keyof typeof schedules;

/**
 * The factor on the learning rate of step `step` (from 0): during warm-up `(step + 1) / warmup`, afterwards the
 * schedule at `(step - warmup) / (total - warmup)`, which stays at 1 beyond the last step.
 */
export function scheduleFactor(name: ScheduleName, step: number, total: number, warmup = 0): number {
  if (step < warmup) return (step + 1) / warmup;
  return schedules[name](Math.min(1, (step - warmup) / Math.max(1, total - warmup)));
}
