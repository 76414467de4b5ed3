// The project's own pages, and the blocks of code in them.
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';

export interface Page {
  /** From the package's root, such as `docs/guide.md`. */
  path: string;
  text: string;
}

export interface Block {
  page: string;
  /** Of the first line of code, from 1. */
  line: number;
  language: string;
  code: string;
}

/** README.md and everything in docs/, the API reference and pages of benchmarks among it. */
export async function readPages(): Promise<Page[]> {
  const docs = join(packageRoot, 'docs');
  const names = (await readdir(docs, { recursive: true })).filter((name) => name.endsWith('.md'));
  const paths = [join(packageRoot, 'README.md'), ...names.sort().map((name) => join(docs, name))];
  return await Promise.all(
    paths.map(async (path) => ({
      path: relative(packageRoot, path),
      text: await readFile(path, 'utf8'),
    })),
  );
}

/** @throws Error for a block that is not closed */
export function blocksOf({ path, text }: Page): Block[] {
  const blocks: Block[] = [];
  let open: (Omit<Block, 'code'> & { lines: string[] }) | undefined;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (open === undefined) {
      const [, language] = /^\s*```(.*)$/.exec(line) ?? [];
      if (language !== undefined) open = { page: path, line: index + 2, language, lines: [] };
    } else if (/^\s*```$/.test(line)) {
      const { lines, ...block } = open;
      blocks.push({ ...block, code: `${lines.join('\n')}\n` });
      open = undefined;
    } else {
      open.lines.push(line);
    }
  }
  if (open !== undefined) throw new Error(`${path}:${open.line}: the block is not closed.`);
  return blocks;
}

/**
 * The ts blocks of a page as programs, each line at its place in the page, so that errors name that.
 * What stands under one heading is one program. A comment that begins with `<!-- ts` begins another
 * one, and may hold lines of code that readers need not see: imports, declarations.
 */
export function programsOf(text: string): string[] {
  const programs: string[][] = [[]];
  let inside: 'other' | 'code' | 'hidden' | undefined;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (inside === undefined) {
      if (/^#+\s/.test(line) || /^<!-- ts\b/.test(line)) programs.push([]);
      if (/^<!-- ts$/.test(line)) inside = 'hidden';
      else if (line.startsWith('```')) inside = line === '```ts' ? 'code' : 'other';
    } else if (line === (inside === 'hidden' ? '-->' : '```')) {
      inside = undefined;
    } else if (inside !== 'other') {
      const program = programs.at(-1) as string[];
      program[index] = line;
    }
  }
  const withCode = programs.filter((lines) => lines.length > 0);
  return withCode.map((lines) => `${Array.from(lines, (line) => line ?? '').join('\n')}\n`);
}

/** Headings as the fragment of an address: GitHub's rule. */
export function anchorsOf({ text }: Pick<Page, 'text'>): Set<string> {
  const anchors = new Set<string>();
  for (const line of withoutBlocks(text).split(/\r?\n/)) {
    const [, heading] = /^#{1,6}\s+(.*?)\s*#*$/.exec(line) ?? [];
    if (heading === undefined) continue;
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const anchor = words.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(/\s/g, '-');
    let unique = anchor;
    for (let count = 1; anchors.has(unique); count += 1) unique = `${anchor}-${count}`;
    anchors.add(unique);
  }
  return anchors;
}

/** Targets of links and pictures, but for those in code. */
export function linksOf({ text }: Pick<Page, 'text'>): string[] {
  const prose = withoutBlocks(text).replaceAll(/`[^`\n]*`/g, '``');
  return Array.from(prose.matchAll(/\]\(([^()\s]+)\)/g), ([, target]) => target as string);
}

function withoutBlocks(text: string): string {
  return text.replaceAll(/^\s*```[\s\S]*?^\s*```$/gm, '');
}
