// Places of tensors that JavaScript should never have let through: the native side checks them again.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { readSafetensorsHeader } from '../../lib/checkpoints/safetensors.js';
import type { NativeProgram, Placement } from '../../lib/core.js';
import { memoryStats } from '../../lib/index.js';
import { callAsync } from '../../lib/native.js';
import { readComponentConfig } from '../../lib/networks/component-config.js';
import { loadPrograms } from '../../lib/networks/programs.js';
import { demoModel } from '../helpers.js';

const folder = join(demoModel, 'text_encoder');
const parameter = 'embeddings.token_embedding.weight';

let program: NativeProgram;
let sound: Placement[];
before(async () => {
  const { architecture } = await readComponentConfig(folder, 'CLIPTextModel');
  const entry = (await loadPrograms(architecture, folder)).get('forward');
  assert.ok(entry !== undefined);
  program = entry.native;
  const tensors = await readSafetensorsHeader(join(folder, 'model.safetensors'));
  sound = program.parameters.flatMap(({ name }) => {
    const tensor = tensors.get(name);
    return tensor === undefined ? [] : [{ parameter: name, ...tensor }];
  });
});

function create(changes: Partial<Placement>): Promise<void> {
  const placements = sound.map((place) =>
    place.parameter === parameter ? { ...place, ...changes } : place,
  );
  return callAsync(async (core) => {
    (await core.createNetwork(program, placements, 'cpu', 'float32', 'none', false)).dispose();
  });
}

test('strides inside the file are taken', async () => {
  await create({});
  await create({ strides: [0, 0] });
  await create({ strides: [1, 1500] });
});

const outside =
  /A tensor lies outside its file|A tensor's size overflows|strides for another shape/;
for (const [what, changes] of Object.entries<Partial<Placement>>({
  'rows that reach beyond the file': { strides: [2 ** 20, 1] },
  'columns that reach beyond the file': { strides: [128, 2 ** 24] },
  'strides whose product overflows': { strides: [2 ** 62, 1] },
  'strides whose sum overflows': { strides: [2 ** 52, 2 ** 56] },
  'strides backwards': { strides: [-128, 1] },
  'fewer strides than sizes': { strides: [1] },
  'more strides than sizes': { strides: [128, 1, 1] },
  'a start beyond the file': { offset: 2 ** 52, strides: [0, 0] },
  'a start before the file': { offset: -1, strides: [0, 0] },
})) {
  test(`${what} are refused`, async () => {
    const stats = memoryStats();
    await assert.rejects(create(changes), { code: 'ERR_CHECKPOINT', message: outside });
    assert.deepEqual(memoryStats(), stats);
  });
}
