import { defineConfig } from 'tsup';

/** Importing the package shall take little: where names stay, keepNames has nothing to do. */
const cheapNames = {
  name: 'cheap-names',
  renderChunk(code: string) {
    const helper = /(var __name ?= ?\((\w+), ?(\w+)\) ?=> ?)(__defProp\(\2, ?"name")/;
    if (!helper.test(code)) throw new Error("esbuild's helper for names has another form.");
    return {
      code: code
        .replace(helper, '$1$2.name === $3 ? $2 : $4')
        .replaceAll(/(?<=^|[;{}\n])__name\((\w+),"\1"\);/g, ''),
    };
  },
};

export default defineConfig([
  {
    entry: { index: 'lib/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    clean: true,
    target: 'node20',
    platform: 'node',
    keepNames: true,
    plugins: [cheapNames],
    esbuildOptions: (options) => {
      // Comments and blanks are a quarter of it; names and lines stay, for stack traces.
      options.minifyWhitespace = true;
      options.minifySyntax = true;
      options.lineLimit = 160;
    },
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
