// What doctor looks at without loading libtorch: the system, the package's own files, caches.
import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

import { hubSettings } from '../checkpoints/hub-settings.js';
import { readJsonObject } from '../checkpoints/json.js';
import { bundledProgramFolder, programCacheFolder } from '../networks/programs.js';
import { packageRoot } from '../package-root.js';
import { byteCount } from './progress.js';

export interface Check {
  name: string;
  /** `failed`: no pictures can be drawn. `warning`: less than there could be. */
  status: 'ok' | 'warning' | 'failed';
  /** What was found, in words. */
  found: string;
  /** What helps. */
  cure?: string;
  /** Of the error, where there was one. */
  code?: string;
  /** More for machines. */
  details?: Record<string, unknown>;
}

export async function systemChecks(): Promise<Check[]> {
  return [
    await versionCheck(),
    nodeCheck(),
    systemCheck(),
    processorCheck(),
    memoryCheck(),
    await pictureCheck(),
    await programCheck(),
    await hubCheck(),
    ...environmentChecks(),
  ];
}

async function versionCheck(): Promise<Check> {
  const { version } = await readJsonObject(join(packageRoot, 'package.json'));
  return { name: 'torchbrush', status: 'ok', found: `${version} in ${packageRoot}` };
}

function nodeCheck(): Check {
  const found = `${process.version} in ${process.execPath}`;
  const isOld = Number(process.versions.node.split('.')[0]) < 20;
  const check: Check = { name: 'node', status: isOld ? 'failed' : 'ok', found };
  return isOld ? { ...check, cure: 'Install Node 20 or newer.' } : check;
}

function systemCheck(): Check {
  const { platform, arch } = process;
  const { header } = process.report.getReport() as unknown as {
    header: { glibcVersionRuntime?: string };
  };
  const glibc = header.glibcVersionRuntime;
  const name = 'system';
  if (platform !== 'linux' || arch !== 'x64') {
    const cure =
      'Use Linux on x86-64, or build the addon from a checkout with npm run build:addon.';
    return { name, status: 'warning', found: `${platform}-${arch}`, cure };
  }
  if (glibc === undefined) {
    const cure =
      'libtorch needs glibc. Use an image such as node:22-bookworm-slim instead of one on Alpine.';
    return { name, status: 'failed', found: `${platform}-${arch} without glibc`, cure };
  }
  const found = `${platform}-${arch}, glibc ${glibc}`;
  const [major = 0, minor = 0] = glibc.split('.').map(Number);
  if (major > 2 || minor >= 28) return { name, status: 'ok', found };
  return { name, status: 'failed', found, cure: 'libtorch needs glibc 2.28 or newer.' };
}

const interesting = ['avx2', 'fma', 'f16c', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16'];

function processorCheck(): Check {
  const [first] = cpus();
  const flags = processorFlags();
  const features = interesting.filter((flag) => flags.has(flag));
  const cores = availableParallelism();
  const parts = [first?.model.trim() ?? 'unknown', `${cores} threads`, ...features];
  const check: Check = {
    name: 'cpu',
    status: 'ok',
    found: parts.join(', '),
    details: { model: first?.model, threads: cores, features },
  };
  if (flags.size === 0 || flags.has('avx2')) return check;
  const cure =
    'Without AVX2 drawing is several times slower. In a virtual machine, pass the host CPU through.';
  return { ...check, status: 'warning', cure };
}

function processorFlags(): Set<string> {
  try {
    const line = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
    return new Set(line?.split(' '));
  } catch {
    return new Set();
  }
}

function memoryCheck(): Check {
  const total = totalmem();
  const available = availableMemory();
  const limit = process.constrainedMemory?.() ?? 0;
  const isLimited = limit > 0 && limit < total;
  const found = `${byteCount(available)} of ${byteCount(total)} available${isLimited ? `, limited to ${byteCount(limit)} here` : ''}`;
  const usable = Math.min(available, isLimited ? limit : available);
  const details = { total, available, ...(isLimited && { limit }) };
  const check: Check = { name: 'memory', status: 'ok', found, details };
  if (usable >= 5e9) return check;
  const cure =
    'Stable Diffusion 1.x takes about 5 GB in float32 and half of that with --dtype bfloat16.';
  return { ...check, status: 'warning', cure };
}

/** What can be had without swapping; freemem() does not count what caches would give back. */
function availableMemory(): number {
  try {
    const line = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    return line === null ? freemem() : Number(line[1]) * 1024;
  } catch {
    return freemem();
  }
}

async function pictureCheck(): Promise<Check> {
  const name = 'pictures';
  try {
    const { default: sharp } = await import('sharp');
    const { vips, sharp: version } = sharp.versions;
    const pixel = { width: 1, height: 1, channels: 3 as const, background: 'red' };
    await sharp({ create: pixel }).png().toBuffer();
    return { name, status: 'ok', found: `sharp ${version}, libvips ${vips}` };
  } catch (error) {
    const [found = ''] = (error as Error).message.split('\n').filter((line) => line.trim() !== '');
    const cure = 'Install it for this platform: npm install --include=optional sharp';
    return { name, status: 'failed', found, cure };
  }
}

/** The programs that come with the package, and those that were exported. */
async function programCheck(): Promise<Check> {
  const name = 'programs';
  const cache = programCacheFolder();
  const exported = existsSync(cache)
    ? readdirSync(cache).filter((key) => existsSync(join(cache, key, 'manifest.json'))).length
    : 0;
  const details = { bundled: bundledProgramFolder, exported: cache };
  try {
    const text = await readFile(join(bundledProgramFolder, 'manifest.json'), 'utf8');
    const { programs } = JSON.parse(text) as { programs: { file: string }[] };
    const missing = programs.filter(({ file }) => !existsSync(join(bundledProgramFolder, file)));
    if (missing.length > 0) throw new Error(`${missing[0]?.file} is missing`);
    const found = `${programs.length} in ${bundledProgramFolder}, ${exported} exported in ${cache}`;
    return { name, status: 'ok', found, details };
  } catch (error) {
    const found = `${bundledProgramFolder}: ${(error as Error).message}`;
    return { name, status: 'failed', found, cure: 'Reinstall torchbrush.', details };
  }
}

/** Room for one large checkpoint. */
const scarce = 10e9;

async function hubCheck(): Promise<Check> {
  const name = 'hub';
  try {
    const { cacheFolder, endpoint, offline, token } = await hubSettings({});
    const repositories = existsSync(cacheFolder)
      ? readdirSync(cacheFolder).filter((entry) => entry.startsWith('models--')).length
      : 0;
    const parent = nearestFolder(cacheFolder);
    const { bavail, bsize } = statfsSync(parent);
    const free = bavail * bsize;
    const state = offline ?? (token === undefined ? 'no access token' : 'with an access token');
    const found = `${endpoint}, ${state}; ${repositories} in ${cacheFolder}, ${byteCount(free)} free`;
    const details = { cacheFolder, endpoint, offline: offline !== undefined, repositories, free };
    const check: Check = { name, status: 'ok', found, details };
    const bad = (cure: string): Check => ({ ...check, status: 'warning', cure });
    try {
      accessSync(parent, constants.W_OK);
    } catch {
      return bad('The cache cannot be written. Name another folder with HF_HUB_CACHE.');
    }
    if (free >= scarce) return check;
    return bad('Little room for checkpoints. Name a folder on another disk with HF_HUB_CACHE.');
  } catch (error) {
    const cure = 'Correct or unset the variable.';
    return { name, status: 'warning', found: (error as Error).message, cure };
  }
}

function nearestFolder(path: string): string {
  return existsSync(path) ? path : nearestFolder(dirname(path));
}

const watched =
  /^(TORCHBRUSH_|HF_|HUGGING|TRANSFORMERS_OFFLINE|OMP_|GOMP_|MKL_|CUDA_VISIBLE|LD_LIBRARY_PATH|LD_PRELOAD)/;

/** Variables that change what happens; secrets stay secret. */
function environmentChecks(): Check[] {
  const entries = Object.entries(process.env).filter(([name]) => watched.test(name));
  if (entries.length === 0) return [];
  const shown = entries.map(([name, value]) =>
    /TOKEN/.test(name) && !/PATH|DISABLE/.test(name) ? `${name}=(set)` : `${name}=${value}`,
  );
  return [{ name: 'variables', status: 'ok', found: shown.sort().join(' ') }];
}
