import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['packages/*/src/**/*.test.ts', 'packages/*/test/**/*.test.ts'],
    globalSetup: 'packages/scion/test/support/cache.ts',
    testTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
