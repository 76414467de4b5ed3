// Weights that torch.save wrote: where their tensors lie, and that they draw what safetensors draw.
import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { readSafetensorsHeader } from '../lib/checkpoints/safetensors.js';
import { bytesPerElement, type StoredTensor } from '../lib/checkpoints/stored-tensor.js';
import { readTorchSave } from '../lib/checkpoints/torch-save.js';
import { configure, type FromPretrainedOptions, Tensor } from '../lib/index.js';
import { Network } from '../lib/networks/network.js';
import { pixelsFrom } from './drawing.js';
import { demoCopy, demoModel, temporaryFolder } from './helpers.js';
import { converted, readArrays, type StoredArrays, writeArrays } from './safetensors-writer.js';
import {
  type SavedStorage,
  SavedTensor,
  savedTensors,
  writeSaved,
  writeStateDict,
  type ZipOptions,
} from './torch-save-writer.js';

configure({ threads: 1 });

const components = [
  ['text_encoder/model', 'text_encoder/pytorch_model'],
  ['unet/diffusion_pytorch_model', 'unet/diffusion_pytorch_model'],
  ['vae/diffusion_pytorch_model', 'vae/diffusion_pytorch_model'],
] as const;

const floats = (key: string, values: number[]): SavedStorage => ({
  key,
  type: 'FloatStorage',
  elements: values.length,
  data: new Uint8Array(Float32Array.from(values).buffer),
});

/** The numbers of a float32 tensor, read by its description. */
function numbers(tensor: StoredTensor): number[] {
  const bytes = readFileSync(tensor.file);
  const { shape } = tensor;
  const strides =
    tensor.strides ?? shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const count = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: count }, (_, index) => {
    let rest = index;
    let element = 0;
    for (let i = shape.length - 1; i >= 0; i -= 1) {
      element += (rest % (shape[i] as number)) * (strides[i] as number);
      rest = Math.floor(rest / (shape[i] as number));
    }
    return bytes.readFloatLE(tensor.offset + element * bytesPerElement.float32);
  });
}

for (const [form, options] of Object.entries<ZipOptions>({
  'a plain archive': {},
  'a zip64 archive': { zip64: true },
  'an archive with a comment': { comment: 'PK\u0005\u0006 and more' },
})) {
  test(`the tensors of ${form} are where torch.save put them`, async (context) => {
    const file = join(temporaryFolder(context), 'x.bin');
    const six = floats('0', [0, 1, 2, 3, 4, 5]);
    const one = floats('1', [7]);
    const none = floats('2', []);
    const tensors = new Map([
      ['plain', new SavedTensor(six, [2, 3], [3, 1])],
      ['parameter', new SavedTensor(six, [2, 3], [3, 1], 0, true)],
      ['transposed', new SavedTensor(six, [3, 2], [1, 3])],
      ['second row', new SavedTensor(six, [3], [1], 3)],
      ['column', new SavedTensor(six, [2], [3], 2)],
      ['expanded', new SavedTensor(one, [2, 2], [0, 0])],
      ['scalar', new SavedTensor(one, [], [])],
      ['empty', new SavedTensor(none, [0, 3], [3, 1])],
      ['__proto__', new SavedTensor(one, [1, 1], [17, 5])],
    ]);
    writeStateDict(file, tensors, options);
    const read = await readTorchSave(file);
    assert.deepEqual([...read.keys()], [...tensors.keys()]);
    const values = Object.fromEntries([...read].map(([name, tensor]) => [name, numbers(tensor)]));
    assert.deepEqual(values.plain, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(values.parameter, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(values.transposed, [0, 3, 1, 4, 2, 5]);
    assert.deepEqual(values['second row'], [3, 4, 5]);
    assert.deepEqual(values.column, [2, 5]);
    assert.deepEqual(values.expanded, [7, 7, 7, 7]);
    assert.deepEqual(values.scalar, [7]);
    assert.deepEqual(values.empty, []);
    // Those that lie in a row say so, and can be read as they are.
    const strided = [...read].filter(([, tensor]) => tensor.strides !== undefined);
    assert.deepEqual(
      strided.map(([name]) => name),
      ['transposed', 'column', 'expanded'],
    );
  });
}

test('tensors are found in a state_dict among other things', async (context) => {
  const file = join(temporaryFolder(context), 'x.ckpt');
  const tensor = new SavedTensor(floats('0', [1]), [1], [1]);
  writeSaved(
    file,
    new Map<string, never>(
      Object.entries({
        epoch: 3,
        global_step: 2 ** 40,
        note: 'text',
        ema: null,
        learning: [1, true, new Map([[0, tensor]])],
        state_dict: new Map([
          [
            'state_dict',
            new Map<string, unknown>([
              ['w', tensor],
              ['n', 7],
            ]),
          ],
        ]),
      }) as [string, never][],
    ),
  );
  assert.deepEqual([...(await readTorchSave(file)).keys()], ['w']);
});

let plain: Float32Array;
before(async () => {
  plain = await pixelsFrom(demoModel);
});

/** Replaces the weights of every component; gives what was there to `write`, and the new stem. */
function rewrite(model: string, write: (stem: string, arrays: StoredArrays) => void): void {
  for (const [stem, pickleStem] of components) {
    const file = join(model, `${stem}.safetensors`);
    const arrays = readArrays(file);
    rmSync(file);
    write(join(model, pickleStem), arrays);
  }
}

function same(
  what: string,
  write: (stem: string, arrays: StoredArrays) => void,
  options?: FromPretrainedOptions,
): void {
  test(`the picture stays the same with ${what}`, async (context) => {
    const model = demoCopy(context);
    rewrite(model, write);
    assert.deepEqual(await pixelsFrom(model, options), plain);
  });
}

same('.bin files in place of safetensors', (stem, arrays) => {
  writeStateDict(`${stem}.bin`, savedTensors(arrays));
});
same('zip64 .bin files in float32', (stem, arrays) => {
  for (const [name, array] of arrays) arrays.set(name, converted(array, 'F32'));
  writeStateDict(`${stem}.bin`, savedTensors(arrays), { zip64: true });
});
same(
  'the variant as .bin files, where the plain ones are something else',
  (stem, arrays) => {
    writeStateDict(`${stem}.fp16.bin`, savedTensors(arrays));
    writeFileSync(`${stem}.bin`, 'not the variant');
  },
  { variant: 'fp16' },
);
for (const [index, shard, options] of [
  ['.bin.index.json', '', {}],
  ['.bin.index.fp16.json', '.fp16', { variant: 'fp16' }],
] as const) {
  same(
    `.bin files in shards with ${index}`,
    (stem, arrays) => {
      const entries = [...savedTensors(arrays)];
      const map: Record<string, string> = {};
      for (const part of [0, 1, 2]) {
        const file = `${stem}${shard}-0000${part + 1}-of-00003.bin`;
        const own = entries.filter((_, i) => i % 3 === part);
        for (const [name] of own) map[name] = file.slice(file.lastIndexOf('/') + 1);
        writeStateDict(file, new Map(own));
      }
      writeFileSync(`${stem}${index}`, JSON.stringify({ metadata: {}, weight_map: map }));
    },
    options,
  );
}
/** Every matrix stored by columns, and all tensors in one storage. */
function writeTurned(file: string, arrays: StoredArrays): void {
  const turned = [...savedTensors(arrays)].map(([name, tensor]) => {
    const [rows = 0, columns = 0] = tensor.shape;
    if (tensor.shape.length !== 2) return [name, tensor] as const;
    const data = byColumns(tensor.storage.data, rows, columns);
    return [name, new SavedTensor({ ...tensor.storage, data }, tensor.shape, [1, rows])] as const;
  });
  const data = Buffer.concat(turned.map(([, { storage }]) => storage.data));
  const types = new Set(turned.map(([, { storage }]) => storage.type));
  const [type = ''] = types;
  assert.equal(types.size, 1);
  const elements = turned.reduce((sum, [, { storage }]) => sum + storage.elements, 0);
  const whole = { key: 'all', type, elements, data };
  let start = 0;
  const views = turned.map(([name, { storage, shape, strides }]) => {
    const view = new SavedTensor(whole, shape, strides, start);
    start += storage.elements;
    return [name, view] as const;
  });
  writeStateDict(file, new Map(views));
}
same('matrices stored by columns, all tensors in one storage', (stem, arrays) => {
  writeTurned(`${stem}.bin`, arrays);
});
same('the same in float32', (stem, arrays) => {
  for (const [name, array] of arrays) arrays.set(name, converted(array, 'F32'));
  writeTurned(`${stem}.bin`, arrays);
});

function byColumns(data: Uint8Array, rows: number, columns: number): Uint8Array {
  const size = data.length / (rows * columns);
  const turned = new Uint8Array(data.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const at = (row * columns + column) * size;
      turned.set(data.subarray(at, at + size), (column * rows + row) * size);
    }
  }
  return turned;
}

test('a weight stored by columns takes low-rank updates and lets go of them', async (context) => {
  const folder = join(demoCopy(context), 'text_encoder');
  const safetensors = join(folder, 'model.safetensors');
  const factors = join(folder, 'factors.safetensors');
  const numbers = (size: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(i) / 8);
  const factor = (shape: number[]) => {
    const data = new Uint8Array(numbers(2 * 128).buffer);
    return { dtype: 'F32', shape, data };
  };
  writeArrays(
    factors,
    new Map([
      ['up', factor([128, 2])],
      ['down', factor([2, 128])],
    ]),
  );
  const { up, down } = Object.fromEntries(await readSafetensorsHeader(factors));
  assert.ok(up !== undefined && down !== undefined);
  const parameter = 'encoder.layers.0.self_attn.q_proj.weight';
  const outputs: Float32Array[][] = [];
  for (const form of ['rows', 'columns']) {
    if (form === 'columns') {
      writeTurned(join(folder, 'pytorch_model.bin'), readArrays(safetensors));
      rmSync(safetensors);
    }
    const network = await Network.load(folder, 'CLIPTextModel', {
      dtype: 'float32',
      device: 'cpu',
    });
    const base = await encode(network);
    await network.updateWeights([{ parameter, terms: [{ up, down, scale: 1 }] }]);
    const updated = await encode(network);
    await network.updateWeights([{ parameter, terms: [] }]);
    assert.deepEqual(await encode(network), base);
    assert.notDeepEqual(updated, base);
    outputs.push([base, updated]);
    network.dispose();
  }
  assert.deepEqual(outputs[0], outputs[1]);
});

async function encode(network: Network): Promise<Float32Array> {
  using ids = Tensor.fromArray(new BigInt64Array([1n, 2n, 3n]), [1, 3]);
  using seen = Tensor.fromArray(new Uint8Array([1, 1, 1]), [1, 3], { dtype: 'bool' });
  const inputs = { input_ids: ids, attention_mask: seen };
  const [output] = await network.run('forward', inputs, ['last_hidden_state']);
  using embeddings = output;
  return (await embeddings?.toFloat32Array()) ?? new Float32Array();
}

test('safetensors are taken where both are there', async (context) => {
  const model = demoCopy(context);
  for (const [, stem] of components) writeFileSync(join(model, `${stem}.bin`), 'something else');
  assert.deepEqual(await pixelsFrom(model), plain);
});

test("a variant's .bin file comes before plain safetensors", async (context) => {
  const model = demoCopy(context);
  const stem = join(model, 'unet/diffusion_pytorch_model');
  writeStateDict(`${stem}.fp16.bin`, savedTensors(readArrays(`${stem}.safetensors`)));
  writeFileSync(`${stem}.safetensors`, 'not the variant');
  assert.deepEqual(await pixelsFrom(model, { variant: 'fp16' }), plain);
});

test('a checkpoint in several forms loads each component from its own', async (context) => {
  const model = demoCopy(context);
  const stem = join(model, 'vae/diffusion_pytorch_model');
  const arrays = readArrays(`${stem}.safetensors`);
  renameSync(`${stem}.safetensors`, `${stem}.non_ema.safetensors`);
  writeStateDict(`${stem}.bin`, savedTensors(arrays));
  assert.deepEqual(await pixelsFrom(model), plain);
});
