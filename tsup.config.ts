import { defineConfig } from 'tsup';

export default defineConfig([
  {
    entry: { index: 'lib/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    clean: true,
    target: 'node20',
    keepNames: true,
    platform: 'node',
    // import.meta.url and require exist in both formats.
    shims: true,
    sourcemap: false,
  },
  {
    entry: { cli: 'lib/cli/main.ts' },
    format: ['esm'],
    target: 'node20',
    keepNames: true,
    platform: 'node',
    external: ['torchbrush'],
    // In pieces, so that help and completion load none of what drawing needs.
    splitting: true,
    esbuildOptions: (options) => {
      options.chunkNames = 'cli/[name]-[hash]';
    },
  },
]);
