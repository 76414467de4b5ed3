// What convert does.
import { convertCheckpoint } from '../checkpoints/convert.js';
import { demoModel } from '../package-root.js';
import type { ConvertFlags } from './convert.js';
import { signal } from './interrupt.js';
import { LoadingProgress } from './load-pipeline.js';
import { printJson, printResult } from './output.js';
import { byteCount, Progress } from './progress.js';

export async function convert(source: string, target: string, flags: ConvertFlags): Promise<void> {
  const { config, variant, dtype, force, revision, offline, quiet } = flags;
  const began = performance.now();
  const loading = new LoadingProgress(quiet);
  const progress = new Progress('writing', {
    quiet,
    amount: byteCount,
    rate: (perSecond) => `${byteCount(perSecond)}/s`,
  });
  const named = (path: string | undefined) => (path === 'demo' ? demoModel : path);
  try {
    const conversion = await convertCheckpoint({
      source,
      target,
      config: named(config),
      ...{ variant, dtype, force, signal },
      access: { revision, localFilesOnly: offline, signal, onProgress: loading.report },
      onProgress: (written, size, part) => {
        loading.stop();
        progress.update(written, size, part);
      },
    });
    progress.stop();
    if (flags.json === true) {
      const seconds = Math.round(performance.now() - began) / 1000;
      printJson({ type: 'convert', source, ...conversion, seconds });
    } else printResult(conversion.folder);
  } finally {
    loading.stop();
    progress.stop();
  }
}
