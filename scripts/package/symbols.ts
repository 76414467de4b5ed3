// What versions of the system's libraries the binaries need: no newer ones than libtorch itself.
import { execFileSync } from 'node:child_process';

/** The newest versions that official wheels of torch ask for (manylinux_2_28). */
const newest: Record<string, string> = {
  GLIBC: '2.28',
  GLIBCXX: '3.4.25',
  CXXABI: '1.3.11',
  GCC: '8.1.0',
};

const isNewer = (version: string, bound: string): boolean => {
  const [a, b] = [version, bound].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(a?.length ?? 0, b?.length ?? 0); i += 1) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
};

/** The symbols that a binary needs in too new a version, as `objdump` prints them. */
export function tooNewSymbols(file: string): string[] {
  const table = execFileSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 1 << 28 });
  return table.split('\n').filter((line) => {
    const [, library, version] = /\*UND\*.*\b(GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)/.exec(line) ?? [];
    return library !== undefined && isNewer(version ?? '', newest[library] ?? '0');
  });
}

/** @throws Error that names the symbols */
export function checkSymbols(files: readonly string[]): void {
  for (const file of files) {
    const found = tooNewSymbols(file);
    if (found.length === 0) continue;
    throw new Error(
      `${file} needs newer system libraries than libtorch does:\n${found.join('\n')}\nAdd them to native/glibc_2_28.h.`,
    );
  }
}

/** Libraries that every glibc system with a C++ program has, and libtorch's own. */
const provided =
  /^(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|c10|torch_cpu|gomp)\.so(\.\d+)?|ld-linux-x86-64\.so\.2)$/;

/** @throws Error that names a library which users may not have, such as CUDA's */
export function checkNeeded(files: readonly string[]): void {
  for (const file of files) {
    const headers = execFileSync('objdump', ['-p', file], { encoding: 'utf8' });
    const needed = [...headers.matchAll(/NEEDED\s+(\S+)/g)].map(([, name]) => name ?? '');
    const strange = needed.filter((name) => !provided.test(name));
    if (strange.length > 0) throw new Error(`${file} needs ${strange.join(', ')}.`);
  }
}
