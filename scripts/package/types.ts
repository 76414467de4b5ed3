// Checks the types that users get: no `any`, and test/types compiles however modules are resolved.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

import { packageRoot } from '../../lib/package-root.js';
import { run } from './libtorch-wheels.js';

/** Compiler options of a project that uses the package, and the name of its source file. */
const projects: Record<string, { file: string; options: Record<string, unknown> }> = {
  'node16, ES module': { file: 'usage.mts', options: { module: 'node16' } },
  'node16, CommonJS': { file: 'usage.cts', options: { module: 'node16' } },
  'nodenext, ES module': { file: 'usage.mts', options: { module: 'nodenext' } },
  'nodenext, CommonJS': { file: 'usage.cts', options: { module: 'nodenext' } },
  bundler: { file: 'usage.ts', options: { module: 'esnext', moduleResolution: 'bundler' } },
  'node10, CommonJS': {
    file: 'usage.ts',
    options: { module: 'commonjs', moduleResolution: 'node10' },
  },
};

/** @throws Error that names the lines with an `any` */
export function checkNoAny(file: string): void {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (node.kind === ts.SyntaxKind.AnyKeyword) {
      found.push(`${file}:${source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  if (found.length > 0) throw new Error(`The public types have an any:\n${found.join('\n')}`);
}

/** Compiles test/types/usage.ts in a folder whose node_modules has the package. */
export function compileUsage(folder: string): void {
  for (const [name, { file, options }] of Object.entries(projects)) {
    const project = join(folder, name.replaceAll(/\W+/g, '-'));
    mkdirSync(project);
    copyFileSync(join(packageRoot, 'test', 'types', 'usage.ts'), join(project, file));
    const compilerOptions = {
      target: 'es2022',
      lib: ['es2022'],
      types: ['node'],
      strict: true,
      noUncheckedIndexedAccess: true,
      // The declarations themselves are checked too.
      skipLibCheck: false,
      noEmit: true,
      ...options,
    };
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: [file] }),
    );
    console.error(`check: types as ${name}`);
    run(process.execPath, [join(packageRoot, 'node_modules', 'typescript', 'bin', 'tsc')], {
      cwd: project,
    });
  }
}
