// Weight files that are missing, broken or malicious.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
} from 'node:fs';
import { test } from 'node:test';

import { AutoPipelineForImage2Image } from '../../lib/index.js';
import { editArrays, editHeader, type Header, writeParts } from '../safetensors-writer.js';
import { model, refused, weightFiles } from './spoiling.js';

const { unet, vae } = weightFiles;

// The file itself
for (const file of Object.values(weightFiles)) {
  refused(`a checkpoint without ${file}`, () => model.remove(file), {
    message: /has no weights: .*safetensors is missing/,
  });
  refused(`an empty ${file}`, () => model.write(file, ''), {
    message: new RegExp(`${file} is no safetensors file, or it is truncated \\(0 bytes\\)`),
  });
}
refused(
  'a folder in place of the weights',
  () => {
    model.remove(vae);
    mkdirSync(model.path(vae));
  },
  { message: /vae\/.*safetensors is no file/ },
);
refused(
  'weights that link to themselves',
  () => {
    model.remove(vae);
    symlinkSync('diffusion_pytorch_model.safetensors', model.path(vae));
  },
  { message: /vae has no weights/ },
);
refused(
  'weights on an endless device',
  () => {
    model.remove(vae);
    symlinkSync('/dev/zero', model.path(vae));
  },
  { message: /vae\/.*safetensors is no file/ },
);
refused(
  'weights that cannot be read',
  () => {
    model.remove(vae);
    symlinkSync('/proc/self/mem', model.path(vae));
  },
  { message: /vae\/.*safetensors/ },
);

// Cut off: in the length, in the header, at its end, in the data, before the last byte
const sound = readFileSync(model.path(vae));
const dataStart = 8 + Number(sound.readBigUInt64LE());
for (const size of [
  4,
  8,
  9,
  2000,
  dataStart - 1,
  dataStart,
  dataStart + 1,
  1e6,
  sound.length - 1,
]) {
  refused(`an autoencoder cut off after ${size} bytes`, () => truncateSync(model.path(vae), size), {
    message: /vae\/.*safetensors.* truncated/,
  });
}
refused(
  'weights with bytes behind the last tensor',
  () => {
    model.write(vae, Buffer.concat([sound, Buffer.alloc(64)]));
  },
  { message: /vae\/.*safetensors.* 64 bytes .*that no tensor/ },
);

// The header
for (const length of [0, -1, -(2n ** 63n), 2 ** 31, 2 ** 40, 2n ** 63n - 8n, 2 ** 27]) {
  refused(
    `a header length of ${length}`,
    () => {
      writeParts(model.path(vae), '{}', new Uint8Array(64), length);
    },
    { message: /vae\/.*safetensors/ },
  );
}
for (const header of [
  '',
  '{',
  '[]',
  'null',
  '"x"',
  '{}',
  '{"__metadata__": {}}',
  '\0\0\0',
  '['.repeat(1e5),
]) {
  refused(
    `the header ${JSON.stringify(header.slice(0, 24))}`,
    () => {
      writeParts(model.path(vae), header, new Uint8Array(64));
    },
    { message: /vae\/.*safetensors/ },
  );
}

// What the header says of a tensor
const bias = 'decoder.conv_in.bias';
const entries: [string, unknown, RegExp][] = [
  ['is no object', 7, /described by no object/],
  ['is null', null, /described by no object/],
  ['is an array', [], /dtype/],
  ['has no dtype', { dtype: undefined }, /dtype undefined/],
  ['has an unknown dtype', { dtype: 'F8_E4M3' }, /dtype "F8_E4M3", which torchbrush does not read/],
  ['has a dtype called constructor', { dtype: 'constructor' }, /dtype "constructor"/],
  ['has a dtype that is no string', { dtype: { toString: 1 } }, /dtype/],
  ['has no shape', { shape: undefined }, /no proper shape/],
  ['has a negative shape', { shape: [-64] }, /no proper shape/],
  ['has a fractional shape', { shape: [64.5] }, /no proper shape/],
  ['has a shape of strings', { shape: ['64'] }, /no proper shape/],
  ['has a shape that overflows', { shape: [2 ** 31, 2 ** 31, 2 ** 31] }, /bytes but has 128/],
  ['has a shape that overflows to zero', { shape: [2 ** 32, 2 ** 32] }, /bytes but has 128/],
  ['has a shape beyond exact numbers', { shape: [2 ** 53] }, /no proper shape/],
  ['has a shape of 100000 dimensions', { shape: Array(1e5).fill(2) }, /bytes but has 128/],
  ['has no offsets', { data_offsets: undefined }, /data_offsets/],
  ['has one offset', { data_offsets: [0] }, /data_offsets/],
  ['has three offsets', { data_offsets: [0, 64, 128] }, /data_offsets/],
  ['has negative offsets', { data_offsets: [-128, 0] }, /data_offsets/],
  ['has turned offsets', { data_offsets: [128, 0] }, /should have 128 bytes/],
  ['has offsets behind the end', { data_offsets: [1e9, 1e9 + 128] }, /truncated, copy it again/],
  ['has offsets beyond exact numbers', { data_offsets: [2 ** 53, 2 ** 53 + 128] }, /data_offsets/],
  ['has the largest offsets', { data_offsets: [2 ** 53 - 129, 2 ** 53 - 1] }, /truncated/],
];
for (const [what, change, message] of entries) {
  refused(
    `a tensor that ${what}`,
    () => {
      editHeader(model.path(vae), (header) => {
        const changes = change as Header[string] | number | null;
        const plain = typeof changes !== 'object' || changes === null || Array.isArray(changes);
        const entry = plain ? changes : { ...header[bias], ...changes };
        header[bias] = entry as Header[string];
      });
    },
    { message: new RegExp(`(?=.*decoder\\.conv_in\\.)(?=.*vae/.*safetensors).*${message.source}`) },
  );
}
refused(
  'a tensor that begins within another',
  () => {
    editHeader(model.path(vae), (header) => {
      const offsets = header['decoder.conv_in.weight']?.data_offsets;
      offsets?.splice(0, 2, offsets[0] - 2, offsets[1] - 2);
    });
  },
  { message: /decoder\.conv_in\.bias" and "decoder\.conv_in\.weight" of .*vae\/.* overlap/ },
);
refused(
  'a header with a hole in the data',
  () => {
    editHeader(model.path(vae), (header) => {
      delete header[bias];
    });
  },
  { message: /vae\/.*safetensors.* 128 bytes .*that no tensor/ },
);

// Tensors that do not fit the architecture
refused(
  'a missing tensor',
  () => editArrays(model.path(unet), (arrays) => arrays.delete('conv_in.bias')),
  {
    message:
      /weights in .*unet do not fit its configuration[\s\S]*1 tensor missing: conv_in\.bias$/,
  },
);
refused(
  'twenty missing tensors',
  () => {
    editArrays(model.path(unet), (arrays) => {
      for (const name of [...arrays.keys()].slice(0, 20)) arrays.delete(name);
    });
  },
  { message: /20 tensors missing: (.*, ){5}and 15 more$/ },
);
refused(
  'a surplus tensor',
  () => {
    editArrays(model.path(unet), (arrays) => {
      arrays.set('__proto__', { dtype: 'F32', shape: [1], data: new Uint8Array(4) });
      arrays.set('lora_A.weight', { dtype: 'F32', shape: [1], data: new Uint8Array(4) });
    });
  },
  { message: /that the architecture has no place for: __proto__, lora_A\.weight/ },
);
for (const shape of [[40, 2], [1, 80], [80, 1, 2], [160], []]) {
  refused(
    `a tensor of shape [${shape}] in place of [80]`,
    () => {
      editArrays(model.path(unet), (arrays) => {
        const count = shape.reduce((product, size) => product * size, 1);
        arrays.set('conv_in.bias', { dtype: 'F16', shape, data: new Uint8Array(count * 2) });
      });
    },
    {
      message: new RegExp(
        `with another shape: conv_in\\.bias is \\[${shape.join(', ')}\\], expected \\[80\\]`,
      ),
    },
  );
}
for (const dtype of ['I32', 'I64', 'U8', 'BOOL']) {
  refused(
    `a weight of dtype ${dtype}`,
    () => {
      const bytes = { I32: 4, I64: 8 }[dtype] ?? 1;
      editArrays(model.path(unet), (arrays) => {
        arrays.set('conv_in.bias', { dtype, shape: [80], data: new Uint8Array(80 * bytes) });
      });
    },
    { message: /that are no floating-point numbers: conv_in\.bias is / },
  );
}
refused(
  'a tensor that occurs twice, under its old and its new name',
  () => {
    editArrays(model.path(vae), (arrays) => {
      const query = arrays.get('decoder.mid_block.attentions.0.to_q.bias');
      if (query !== undefined) arrays.set('decoder.mid_block.attentions.0.query.bias', query);
    });
  },
  { message: /decoder\.mid_block\.attentions\.0\.to_q\.bias occurs twice.*vae/ },
);
refused(
  'weights of another model',
  () => {
    model.write(vae, readFileSync(model.path(unet)));
  },
  { message: /weights in .*vae do not fit[\s\S]*missing[\s\S]*no place for/ },
);

// Other files in their place
refused(
  'safetensors under the name of a .bin',
  () => {
    renameSync(model.path(unet), model.path('unet/diffusion_pytorch_model.bin'));
  },
  { message: /unet\/diffusion_pytorch_model\.bin is no file that torch\.save wrote/ },
);
refused(
  'weights that are there as a variant only',
  () => {
    renameSync(model.path(unet), model.path('unet/diffusion_pytorch_model.fp16.safetensors'));
  },
  {
    message:
      /unet has no diffusion_pytorch_model\.safetensors or .*\.bin; load it with variant: 'fp16'/,
  },
);
refused(
  'weights that are there as another variant only',
  () => {
    renameSync(model.path(unet), model.path('unet/diffusion_pytorch_model.fp16.safetensors'));
  },
  { message: /unet has no .*; load it with variant: 'fp16'/ },
  { variant: 'bf16' },
);

const shards = 'unet/diffusion_pytorch_model.safetensors.index.json';
const shardCases: [string, unknown, RegExp][] = [
  ['that is no object', [], /should hold a JSON object/],
  ['without a map', {}, /names no shards/],
  ['with an empty map', { weight_map: {} }, /names no shards/],
  ['with a map that is no object', { weight_map: 7 }, /names no shards/],
  ['that names /etc/passwd', { weight_map: { a: '/etc/passwd' } }, /outside its folder/],
  ['that leads out of the folder', { weight_map: { a: '../../etc/passwd' } }, /outside its folder/],
  [
    'that leads to a component',
    { weight_map: { a: '../vae/x.safetensors' } },
    /outside its folder/,
  ],
  ['that names a number', { weight_map: { a: 7 } }, /outside its folder/],
  [
    'that names a missing shard',
    { weight_map: { a: 'x.safetensors' } },
    /x\.safetensors, which is missing/,
  ],
];
for (const [what, content, message] of shardCases) {
  refused(
    `an index of shards ${what}`,
    () => {
      model.remove(unet);
      model.write(shards, JSON.stringify(content));
    },
    { message: new RegExp(`unet/.*index\\.json.*${message.source}`) },
  );
}
refused(
  'two shards that hold the same tensor',
  () => {
    const names = ['a.safetensors', 'b.safetensors'];
    for (const name of names) model.write(`unet/${name}`, readFileSync(model.path(unet)));
    model.remove(unet);
    model.write(shards, JSON.stringify({ weight_map: { a: names[0], b: names[1] } }));
  },
  { message: /occurs twice/ },
);

refused(
  'TorchScript in place of weights',
  () => {
    model.remove(unet);
    model.write('unet/model.pt', 'PK\x03\x04');
  },
  { code: 'ERR_UNTRUSTED', message: /model\.pt holds code/ },
);

test('archives that could run code lie beside the weights and are left alone', async (context) => {
  context.after(() => model.restore());
  const trace = model.path('executed');
  // What pickle would do with it: posix.system('touch …').
  const pickle = `cposix\nsystem\n(S'touch ${trace}'\ntR.`;
  for (const file of [
    'unet/model.pt',
    'unet/diffusion_pytorch_model.bin',
    'vae/model.pt2',
    'x.ckpt',
  ]) {
    model.write(file, pickle);
  }
  using pipe = await AutoPipelineForImage2Image.fromPretrained(model.folder);
  assert.equal(pipe.device, 'cpu');
  assert.equal(existsSync(trace), false);
});
