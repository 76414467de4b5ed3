// What the tests of the hub share: an environment of their own and a cache.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { temporaryFolder } from './helpers.js';
import { HubServer, noise, type Repository } from './hub-server.js';

type Context = Parameters<typeof temporaryFolder>[0];

for (const name of Object.keys(process.env)) {
  if (/^(HF_|HUGGING|TRANSFORMERS_OFFLINE|XDG_CACHE_HOME)/.test(name)) delete process.env[name];
}

/** Sets variables of the environment until the test ends. */
export function environment(context: Context, values: Record<string, string>): void {
  Object.assign(process.env, values);
  context.after(() => {
    for (const name of Object.keys(values)) delete process.env[name];
  });
}

/** A server, and an empty cache, that the environment names. */
export async function startHub(
  context: Context,
  repositories: Record<string, Repository>,
): Promise<{ server: HubServer; cache: string }> {
  const server = await HubServer.start(repositories);
  context.after(() => server.close());
  const home = temporaryFolder(context);
  environment(context, { HF_ENDPOINT: server.endpoint, HF_HOME: home });
  return { server, cache: join(home, 'hub') };
}

const json = (value: object) => Buffer.from(JSON.stringify(value));

/** A repository of parts whose weights are noise, with much that no pipeline reads. */
export function fakeFiles(): Record<string, Buffer> {
  return {
    'README.md': Buffer.from('# A model\n'),
    'model_index.json': json({
      _class_name: 'StableDiffusionPipeline',
      scheduler: ['diffusers', 'PNDMScheduler'],
      tokenizer: ['transformers', 'CLIPTokenizer'],
      unet: ['diffusers', 'UNet2DConditionModel'],
      vae: ['diffusers', 'AutoencoderKL'],
    }),
    'scheduler/scheduler_config.json': json({ of: 'scheduler' }),
    'tokenizer/merges.txt': Buffer.from('#version: 0.2\n'),
    'tokenizer/vocab.json': json({ of: 'tokenizer' }),
    'unet/config.json': json({ of: 'unet' }),
    'unet/diffusion_pytorch_model.safetensors': noise(300_000, 2),
    'unet/diffusion_pytorch_model.fp16.safetensors': noise(150_000, 3),
    'unet/diffusion_pytorch_model.bin': noise(300_001, 4),
    'unet/diffusion_flax_model.msgpack': noise(300_002, 5),
    'unet/model.onnx': noise(300_003, 6),
    'vae/config.json': json({ of: 'vae' }),
    'vae/diffusion_pytorch_model.safetensors': noise(100_000, 7),
    'vae/diffusion_pytorch_model.bin': noise(100_001, 8),
    'v1-5-pruned.safetensors': noise(400_000, 9),
  };
}

/** What a pipeline of `fakeFiles` reads. */
export const neededFiles = [
  'model_index.json',
  'scheduler/scheduler_config.json',
  'tokenizer/merges.txt',
  'tokenizer/vocab.json',
  'unet/config.json',
  'unet/diffusion_pytorch_model.safetensors',
  'vae/config.json',
  'vae/diffusion_pytorch_model.safetensors',
];

export const read = (...path: string[]): Buffer => readFileSync(join(...path));
