// LoRA files that do not fit, are of another kind, or are out to do harm: an error that names the
// cause, and the networks as they were.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { configure, memoryStats, StableDiffusionPipeline } from '../../lib/index.js';
import { array, someLayers, write } from '../adapter-files.js';
import { demoModel } from '../helpers.js';
import { assertRefused } from '../refusal.js';
import { editHeader, type StoredArray } from '../safetensors-writer.js';

configure({ threads: 1 });

let pipe: StableDiffusionPipeline;
const folder = mkdtempSync(join(tmpdir(), 'torchbrush-test-'));
const sound = write(folder, 'sound', someLayers(1));
before(async () => {
  pipe = await StableDiffusionPipeline.fromPretrained(demoModel);
});
after(() => {
  rmSync(folder, { recursive: true });
  assert.deepEqual(pipe.getListAdapters(), []);
  pipe.dispose();
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});

const toQ = 'mid_block.attentions.0.transformer_blocks.0.attn1.to_q';
const down = array([4, 128], 1, 1);
const up = array([128, 4], 2, 1);
const kohya = `lora_unet_${toQ.replaceAll('.', '_')}`;

const files: [what: string, arrays: Record<string, StoredArray>, says: RegExp][] = [
  [
    'a layer that the network does not have',
    { 'unet.nowhere.to_q.lora_A.weight': down, 'unet.nowhere.to_q.lora_B.weight': up },
    /no layer belongs to unet\.nowhere\.to_q\.lora_A\.weight/,
  ],
  [
    'a Kohya layer that the network does not have',
    { 'lora_unet_x.lora_up.weight': up },
    /no layer/,
  ],
  ['a layer of a second text encoder', { 'lora_te2_x.lora_up.weight': up }, /no layer/],
  ['a name from every object', { 'lora_unet___proto__.constructor': up }, /no layer/],
  [
    'the token embeddings',
    { 'text_encoder.embeddings.token_embedding.lora_A.weight': down },
    /no layer/,
  ],
  ['one factor only', { [`unet.${toQ}.lora_A.weight`]: down }, /lacks the up factor/],
  ['the other factor only', { [`unet.${toQ}.lora_B.weight`]: up }, /lacks the down factor/],
  [
    'ranks that differ',
    { [`unet.${toQ}.lora_A.weight`]: array([5, 128], 1, 1), [`unet.${toQ}.lora_B.weight`]: up },
    /do not make the layer's weight \[128, 128\]/,
  ],
  [
    "another base model's width",
    { [`unet.${toQ}.lora_A.weight`]: array([4, 320], 1, 1), [`unet.${toQ}.lora_B.weight`]: up },
    /do not make the layer's weight/,
  ],
  [
    'a rank of nothing',
    {
      [`unet.${toQ}.lora_A.weight`]: array([0, 128], 1, 1),
      [`unet.${toQ}.lora_B.weight`]: array([128, 0], 1, 1),
    },
    /do not make the layer's weight/,
  ],
  [
    'a middle of another size',
    {
      [`${kohya}.lora_down.weight`]: down,
      [`${kohya}.lora_up.weight`]: up,
      [`${kohya}.lora_mid.weight`]: array([4, 4, 3, 3], 1, 1),
    },
    /do not make the layer's weight/,
  ],
  [
    'an alpha of many numbers',
    {
      [`${kohya}.lora_down.weight`]: down,
      [`${kohya}.lora_up.weight`]: up,
      [`${kohya}.alpha`]: up,
    },
    /should be a single number/,
  ],
  [
    'an alpha that is no number',
    {
      [`${kohya}.lora_down.weight`]: down,
      [`${kohya}.lora_up.weight`]: up,
      [`${kohya}.alpha`]: { ...array([1], 1, 1), data: new Uint8Array([0, 0, 192, 127]) },
    },
    /alpha .* is no usable number/,
  ],
  [
    'whole numbers',
    { [`unet.${toQ}.lora_A.weight`]: { ...down, dtype: 'I32' }, [`unet.${toQ}.lora_B.weight`]: up },
    /int32 numbers/,
  ],
  [
    'the same layer under two names',
    { [`unet.${toQ}.lora_A.weight`]: down, [`${kohya}.lora_down.weight`]: down },
    /twice/,
  ],
  ['a LoHa adapter', { [`${kohya}.hada_w1_a`]: up }, /LoHa/],
  ['a LoKr adapter', { [`${kohya}.lokr_w1`]: up }, /LoKr/],
  ['whole differences', { [`${kohya}.diff`]: up }, /whole weight differences/],
  ['magnitudes of DoRA', { [`unet.${toQ}.lora_magnitude_vector`]: up }, /DoRA/],
];

for (const [i, [what, arrays, says]] of files.entries()) {
  test(`a file with ${what} is refused`, async () => {
    const file = write(folder, `bad-${i}`, arrays);
    await assertRefused(() => pipe.loadLoraWeights(file), { says, code: 'ERR_CHECKPOINT' });
  });
}

test('metadata that cannot be meant is refused', async () => {
  const metadata: [unknown, RegExp][] = [
    ['no JSON', /is no JSON object/],
    ['{"unet.lora_alpha":"8"}', /lora_alpha that is no number/],
    ['{"unet.lora_alpha":8,"unet.use_dora":true}', /DoRA/],
    ['{"unet.lora_alpha":8,"unet.alpha_pattern":{"(a+)+$":1}}', /regular expression/],
    ['{"unet.lora_alpha":8,"unet.alpha_pattern":{"a":"b"}}', /something else than numbers/],
  ];
  for (const [text, says] of metadata) {
    const file = write(folder, 'metadata', someLayers(1));
    editHeader(file, (header) => {
      Object.assign(header, { __metadata__: { lora_adapter_metadata: text } });
    });
    await assertRefused(() => pipe.loadLoraWeights(file), { says, code: 'ERR_CHECKPOINT' });
  }
});

test('cut and scrambled files are refused', async () => {
  const bytes = readFileSync(sound);
  const file = join(folder, 'spoiled.safetensors');
  for (const length of [0, 4, 8, 100, 1000, bytes.length - 1]) {
    writeFileSync(file, bytes.subarray(0, length));
    await assertRefused(() => pipe.loadLoraWeights(file), { says: /./, code: 'ERR_CHECKPOINT' });
  }
});

test('a file that shrinks after it was loaded cannot be set again', async () => {
  const file = write(folder, 'shrinking', someLayers(1));
  await pipe.loadLoraWeights(file, { adapterName: 'shrinking' });
  writeFileSync(file, readFileSync(file).subarray(0, 5000));
  await assert.rejects(pipe.setAdapters('shrinking', 2), { code: 'ERR_CHECKPOINT' });
  await pipe.unloadLoraWeights();
});

test('paths and names that cannot be meant are refused', async () => {
  const codes = { file: 'ERR_CHECKPOINT', argument: 'ERR_INVALID_ARGUMENT' };
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const refused = (path: string, options: object, says: RegExp, code: string) =>
    assertRefused(() => pipe.loadLoraWeights(path, options), { says, code });
  await refused(join(folder, 'nowhere'), {}, /is missing/, codes.file);
  await refused(folder, {}, /Name the file with weightName/, codes.file);
  await refused(empty, {}, /no \.safetensors, \.bin or \.pt file/, codes.file);
  await refused(sound, { weightName: 'x.safetensors' }, /is no folder/, codes.file);
  await refused(folder, { weightName: '../x' }, /weightName/, codes.argument);
  await refused(folder, { weightName: 'x.bin' }, /x\.bin/, codes.file);
  await refused(sound, { adapterName: '' }, /adapterName/, codes.argument);
  await refused(sound, { adaptername: 'a' }, /adaptername/, codes.argument);
  await assertRefused(() => pipe.setAdapters('a'), { says: /none is loaded/ });
  await assertRefused(() => pipe.deleteAdapters(['a']), { says: /loaded adapter/ });
  for (const name of [undefined, 3, [3], {}]) {
    await assertRefused(() => pipe.setAdapters(name as never), { says: /adapterNames/ });
    await refused(name as never, {}, /for path/, codes.argument);
  }
  await refused(folder, { weightName: 3 }, /weightName/, codes.argument);
  await pipe.loadLoraWeights(sound, { adapterName: 'a' });
  await refused(sound, { adapterName: 'a' }, /not yet taken/, codes.argument);
  for (const weights of [[1, 2], Number.NaN, 'strong', { vae: 1 }, { unet: '1' }]) {
    await assertRefused(() => pipe.setAdapters('a', weights as never), { says: /adapterWeights/ });
  }
  await pipe.unloadLoraWeights();
});
