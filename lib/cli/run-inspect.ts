// What inspect does: finds out what a path is, and says it in words or as JSON.
import { resolveFile } from '../checkpoints/hub.js';
import { HubError } from '../errors.js';
import { demoModel } from '../package-root.js';
import type { InspectFlags } from './inspect.js';
import { type AdapterReport, inspectAdapter } from './inspect-adapter.js';
import {
  type CheckpointReport,
  type ComponentReport,
  inspectFile,
  inspectFolder,
} from './inspect-report.js';
import { printResult } from './output.js';
import { byteCount } from './progress.js';
import { isFolder } from './values.js';

export async function inspect(path: string, flags: InspectFlags): Promise<void> {
  const report = await reportOn(path === 'demo' ? demoModel : path, flags).catch(withWayOut);
  if (flags.json === true) printResult(JSON.stringify(report, undefined, 2));
  else printResult('components' in report ? inWords(report) : adapterInWords(report));
  if (!report.ready) process.exitCode = 1;
}

/** To the library, going without the network was somebody's wish. */
function withWayOut(error: unknown): never {
  if (!(error instanceof HubError) || error.code !== 'ERR_HUB_NOT_CACHED') throw error;
  const message = `${error.message} Or add --online: it fetches the configurations alone.`;
  throw new HubError(message, { code: error.code, cause: error });
}

async function reportOn(
  path: string,
  flags: InspectFlags,
): Promise<CheckpointReport | AdapterReport> {
  const isFile = /\.(safetensors|ckpt|bin|pt)$/i.test(path) && !isFolder(path);
  if (!isFile) return await inspectFolder(path, flags);
  const file = await resolveFile(path, { localFilesOnly: flags.online !== true });
  if (!/\.ckpt$/i.test(file)) {
    const adapter = await inspectAdapter(file);
    if (adapter !== undefined) return adapter;
  }
  return await inspectFile(file, flags);
}

function inWords(report: CheckpointReport): string {
  const { path, className, components, memory, problems, needs, commands } = report;
  const lines = [`${path}: ${className}`];
  for (const component of components) lines.push(...componentInWords(component));
  if (report.parameters > 0) {
    const { float32, float16 } = memory;
    lines.push(
      `in all        ${millions(report.parameters)} parameters, ${byteCount(report.bytes)} on the disk; in memory ${byteCount(float32)} in float32, ${byteCount(float16)} in float16 or bfloat16`,
    );
  }
  if (commands.length > 0) lines.push(`for           torchbrush ${commands.join(', ')}`);
  lines.push(...needs.map((need) => `needs         ${need}`));
  lines.push(...problems.map((problem) => `problem       ${problem}`));
  if (components.some(({ program }) => program === 'missing')) {
    lines.push(`Make the missing programs with: npx torchbrush export "${path}"`);
  }
  lines.push(report.ready ? 'ready to run' : 'not ready to run');
  return lines.join('\n');
}

function componentInWords(component: ComponentReport): string[] {
  const { name, className, parameters, dtypes, files = [], program, problem } = component;
  const lines = [`  ${name}: ${className}`];
  if (parameters !== undefined) {
    const held = files.map((file) => `${file.name} (${byteCount(file.bytes)})`).join(', ');
    const where = held === '' ? '' : `; ${held}`;
    lines.push(`    ${millions(parameters)} parameters, ${dtypes?.join(', ')}${where}`);
  }
  if (component.withoutWeights) lines.push('    weights: not downloaded');
  if (program !== undefined) {
    const names = component.programs === undefined ? '' : ` (${component.programs.join(', ')})`;
    lines.push(`    architecture ${component.architecture}, program ${program}${names}`);
  }
  if (problem !== undefined) lines.push(`    problem: ${problem}`);
  return lines;
}

function adapterInWords(report: AdapterReport): string {
  const { path, kind, bytes, dtypes, base, problem, notes } = report;
  const what = kind === 'lora' ? 'LoRA' : 'textual inversion';
  const lines = [
    `${path}: ${what}`,
    `made for      ${base ?? 'not known'}`,
    `numbers       ${millions(report.parameters)}, ${dtypes.join(', ')}; ${byteCount(bytes)}`,
  ];
  if (kind === 'lora') {
    const layers = Object.entries(report.networks ?? {}).map(([name, count]) => `${name} ${count}`);
    lines.push(`layers        ${layers.join(', ')}; names as ${report.format} writes them`);
    lines.push(`rank          ${report.ranks?.join(', ')}`);
  } else {
    lines.push(`token         ${report.token ?? 'none in the file: name one, TOKEN=FILE'}`);
    lines.push(`vectors       ${report.vectors}`);
  }
  for (const [name, value] of Object.entries(notes)) lines.push(`noted         ${name}: ${value}`);
  lines.push(`for           torchbrush ${report.commands.join(', ')}`);
  if (problem !== undefined) lines.push(`problem       ${problem}`);
  lines.push(report.ready ? 'ready to use' : 'not usable');
  return lines.join('\n');
}

function millions(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} G`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : `${(count / 1e3).toFixed(1)} k`;
}
