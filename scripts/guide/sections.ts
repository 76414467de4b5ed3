// The examples of docs/guide.md: what stands under one heading is one program.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';

export const guide = join(packageRoot, 'docs', 'guide.md');

export interface Section {
  title: string;
  /** What the ts blocks hold, each line at its place in the guide, so that errors name that. */
  code: string;
}

export async function readSections(): Promise<Section[]> {
  return sectionsOf(await readFile(guide, 'utf8'));
}

/** @throws Error where a block is not closed, or two sections have one title */
export function sectionsOf(markdown: string): Section[] {
  const sections: { title: string; lines: string[] }[] = [];
  let fence: string | undefined;
  for (const [index, line] of markdown.split(/\r?\n/).entries()) {
    if (fence === undefined) {
      const [, title] = /^#+\s+(.*)$/.exec(line) ?? [];
      if (title !== undefined) sections.push({ title, lines: [] });
      const [, language] = /^```(.*)$/.exec(line) ?? [];
      fence = language;
    } else if (line === '```') {
      fence = undefined;
    } else if (fence === 'ts') {
      const lines = sections.at(-1)?.lines;
      if (lines !== undefined) lines[index] = line;
    }
  }
  if (fence !== undefined) throw new Error('The last block of code is not closed.');
  const withCode = sections.filter(({ lines }) => lines.length > 0);
  if (new Set(withCode.map(fileOf)).size < withCode.length) {
    throw new Error('Two sections have the same title.');
  }
  return withCode.map(({ title, lines }) => ({
    title,
    code: `${Array.from(lines, (line) => line ?? '').join('\n')}\n`,
  }));
}

/** Names on the hub, or folders, of the checkpoints that a section loads. */
export function checkpointsOf({ code }: Section): string[] {
  return [...new Set(code.match(/(?<=')[\w.-]+\/[\w.-]+(?=')/g))];
}

export function fileOf({ title }: Pick<Section, 'title'>): string {
  return `${title.toLowerCase().replaceAll(/\W+/g, '-')}.mts`;
}

export async function writeSections(sections: readonly Section[], folder: string): Promise<void> {
  for (const section of sections) await writeFile(join(folder, fileOf(section)), section.code);
}
