// Files of torch.save with bytes changed at random, from fixed seeds: each is read rightly, or it is
// refused in our words. Nothing outside the file is ever pointed at.
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  bytesPerElement,
  type StoredTensor,
  stridesOf,
} from '../../lib/checkpoints/stored-tensor.js';
import { readArchive } from '../../lib/checkpoints/torch-save.js';
import type { ByteSource, Piece } from '../../lib/checkpoints/weight-file.js';
import { CheckpointError, memoryStats, TorchbrushError } from '../../lib/index.js';
import { Network } from '../../lib/networks/network.js';
import { demoCopy } from '../helpers.js';
import { readArrays } from '../safetensors-writer.js';
import {
  archive,
  type SavedStorage,
  SavedTensor,
  savedTensors,
  stateDictPickle,
  zip,
} from '../torch-save-writer.js';
import { mutated, type Random, randomNumbers } from './mutation.js';

const storage: SavedStorage = {
  key: '0',
  type: 'FloatStorage',
  elements: 6,
  data: new Uint8Array(24),
};
const program = stateDictPickle(
  new Map([
    ['plain', new SavedTensor(storage, [2, 3], [3, 1])],
    ['turned', new SavedTensor(storage, [3, 2], [1, 3], 0, true)],
    ['part', new SavedTensor(storage, [3], [1], 3)],
  ]),
);

function assertRefusedWell(error: unknown, file: string, round: number): void {
  assert.ok(error instanceof TorchbrushError, `round ${round}: ${(error as Error).stack}`);
  assert.match(error.code, /^ERR_(CHECKPOINT|UNTRUSTED)$/, `round ${round}: ${error.stack}`);
  assert.ok(error.message.includes(file), `round ${round}: ${error.message}`);
}

function assertInside(size: number, tensor: StoredTensor): void {
  const { offset, dtype, shape } = tensor;
  const strides = stridesOf(tensor);
  const last = shape.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), 0);
  const end = offset + (shape.includes(0) ? 0 : (last + 1) * bytesPerElement[dtype]);
  assert.ok(Number.isSafeInteger(end) && offset >= 0 && end <= size);
}

/** Reads each spoilt file; gives how many were refused. */
async function fuzz(rounds: number, spoilt: (random: Random) => Uint8Array): Promise<number> {
  const random = randomNumbers(rounds);
  let refusals = 0;
  for (let round = 0; round < rounds; round += 1) {
    const bytes = Buffer.from(spoilt(random));
    const source = new BytesInMemory(bytes);
    try {
      for (const tensor of (await readArchive(source)).values()) assertInside(bytes.length, tensor);
    } catch (error) {
      assertRefusedWell(error, source.path, round);
      refusals += 1;
    }
  }
  return refusals;
}

/** A file in memory, many times as fast as one on a disk. */
class BytesInMemory implements ByteSource {
  readonly path = '/memory/x.bin';
  readonly size: number;

  constructor(private readonly bytes: Buffer) {
    this.size = bytes.length;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const isInside = offset >= 0 && length >= 0 && offset + length <= this.size;
    if (!isInside) throw new CheckpointError(`${this.path} ends at byte ${this.size}.`);
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  readAll(pieces: readonly Piece[]): Promise<Buffer[]> {
    return Promise.all(pieces.map(({ offset, length }) => this.read(offset, length)));
  }
}

for (const [form, zip64, rounds] of [
  ['zip', false, 1000],
  ['zip64', true, 1001],
] as const) {
  test(`a ${form} archive with changed bytes is read or refused`, async () => {
    const sound = archive(program, [storage], { zip64 });
    const refusals = await fuzz(rounds, (random) => mutated(sound, sound.length, random));
    assert.ok(refusals > 200 && refusals < rounds, `${refusals} refused`);
  });
}

test('an archive whose directory has changed bytes is read or refused', async () => {
  const sound = archive(program, [storage], { zip64: true });
  const start = sound.indexOf('PK\u0001\u0002');
  const refusals = await fuzz(800, (random) => {
    const tail = mutated(sound.subarray(start), sound.length, random);
    return Buffer.concat([sound.subarray(0, start), tail]);
  });
  assert.ok(refusals > 400, `${refusals} refused`);
});

test('a pickle with changed bytes in a sound archive is read or refused', async () => {
  const refusals = await fuzz(2000, (random) =>
    archive(mutated(program, program.length, random), [storage]),
  );
  assert.ok(refusals > 1000 && refusals < 2000, `${refusals} refused`);
});

test('a pickle spliced from pieces of itself is read or refused', async () => {
  const piece = (random: Random) => {
    const from = random(program.length);
    return program.subarray(from, from + 1 + random(80));
  };
  await fuzz(1000, (random) => {
    const pieces = Array.from({ length: 1 + random(12) }, () => piece(random));
    const start = program.subarray(0, random(program.length));
    return archive(Buffer.concat([start, ...pieces, program.subarray(-1)]), [storage]);
  });
});

test('a pickle of operations at random is refused', async () => {
  const alphabet = Buffer.from(
    '\x80\x95N\x88\x89KMJ\x8aG\x8cXCB(012qr\x94hj)\x85\x86\x87t]ae}suc\x93QRb.',
    'latin1',
  );
  const refusals = await fuzz(1000, (random) => {
    const bytes = Array.from({ length: 2 + random(200) }, () =>
      // Small numbers between operations, so that lengths and places are met.
      random(4) === 0 ? random(4) : (alphabet[random(alphabet.length)] as number),
    );
    return zip([['archive/data.pkl', Buffer.from(bytes)]]);
  });
  assert.equal(refusals, 1000);
});

test('a text encoder whose .bin has changed bytes loads or is refused', async (context) => {
  const folder = join(demoCopy(context), 'text_encoder');
  const safetensors = join(folder, 'model.safetensors');
  const tensors = savedTensors(readArrays(safetensors));
  rmSync(safetensors);
  const file = join(folder, 'pytorch_model.bin');
  const sound = stateDictPickle(tensors);
  const storages = [...tensors.values()].map((tensor) => tensor.storage);
  const random = randomNumbers(7);
  const before = memoryStats();
  let refusals = 0;
  for (let round = 0; round < 60; round += 1) {
    writeFileSync(file, archive(mutated(sound, sound.length, random), storages));
    try {
      const options = { dtype: 'float32', device: 'cpu' } as const;
      (await Network.load(folder, 'CLIPTextModel', options)).dispose();
    } catch (error) {
      assertRefusedWell(error, folder, round);
      refusals += 1;
    }
    assert.deepEqual(memoryStats(), before, `round ${round}`);
  }
  assert.ok(refusals > 30, `${refusals} refused`);
});
