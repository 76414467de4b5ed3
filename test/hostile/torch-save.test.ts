// Archives and pickles of torch.save that are broken or malicious. None is executed, none makes
// anything be read outside its file, and each is refused in our words or read rightly.
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { readTorchSave } from '../../lib/checkpoints/torch-save.js';
import { temporaryFolder } from '../helpers.js';
import { archive, pickle, pickledStorage, type SavedStorage, zip } from '../torch-save-writer.js';
import { assertRefusal, type Refusal } from './spoiling.js';

const untrusted = (message: RegExp): Refusal => ({ code: 'ERR_UNTRUSTED', message });
const storage: SavedStorage = {
  key: '0',
  type: 'FloatStorage',
  elements: 6,
  data: new Uint8Array(24),
};

/** A test that a file is refused, and soon. */
function refused(what: string, bytes: () => Uint8Array, refusal: Refusal): void {
  test(`${what} is refused`, async (context) => {
    const file = join(temporaryFolder(context), 'x.bin');
    writeFileSync(file, bytes());
    const start = performance.now();
    await assert.rejects(readTorchSave(file), (error) => assertRefusal(error, refusal));
    assert.ok(performance.now() - start < 5000, 'it took too long');
  });
}

/** The same for a pickle in an archive that is sound. */
function refusedPickle(what: string, parts: () => Uint8Array[], refusal: Refusal): void {
  refused(
    what,
    () => archive(Buffer.concat([pickle.protocol, ...parts(), pickle.stop]), [storage]),
    refusal,
  );
}

// The file
refused('an empty file', () => Buffer.alloc(0), { message: /no file that torch\.save wrote \(0 / });
refused('a pointer to a large file', () => Buffer.from('version https://git-lfs.github.com/'), {
  message: /no file that torch\.save wrote .*download/,
});
refused('a file of PyTorch 1.5', () => Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex'), {
  message: /before PyTorch 1\.6.*python -c .*weights_only=True/,
});
refused(
  'a tar file of PyTorch 0.1',
  () => Buffer.concat([Buffer.alloc(257), Buffer.from('ustar'), Buffer.alloc(250)]),
  { message: /before PyTorch 1\.6/ },
);
const sound = () =>
  archive(Buffer.concat([pickle.protocol, pickle.emptyDictionary, pickle.stop]), [storage]);
refused('an archive without its end', () => sound().subarray(0, 200), {
  message: /damaged or truncated: the end of the zip archive is missing/,
});
refused('an archive without its last byte', () => sound().subarray(0, -1), {
  message: /the end of the zip archive is missing/,
});
refused('an archive whose start is missing', () => sound().subarray(16), {
  message: /is no file that torch\.save wrote/,
});
refused('an archive without a pickle', () => zip([['archive/data/0', storage.data]]), {
  message: /expected one data\.pkl/,
});
refused(
  'an archive with two pickles',
  () =>
    zip([
      ['a/data.pkl', pickle.stop],
      ['b/data.pkl', pickle.stop],
    ]),
  { message: /expected one data\.pkl/ },
);
refused(
  'an archive with an entry twice',
  () =>
    zip([
      ['a/data.pkl', pickle.stop],
      ['a/data.pkl', pickle.stop],
    ]),
  { message: /two entries "a\/data\.pkl"/ },
);
refused('a compressed archive', () => zip([['a/data.pkl', pickle.stop]], { method: 8 }), {
  message: /"a\/data\.pkl" of .* is compressed/,
});
refused('an encrypted archive', () => zip([['a/data.pkl', pickle.stop]], { flags: 1 }), {
  message: /"a\/data\.pkl" of .* is encrypted/,
});
refused(
  'an archive from a machine of the other byte order',
  () =>
    zip([
      ['a/data.pkl', pickle.stop],
      ['a/byteorder', Buffer.from('big')],
    ]),
  { message: /order "big", expected "little"/ },
);
for (const [what, at] of [
  ['size', 40],
  ['place', 48],
  ['count', 32],
] as const) {
  for (const value of [2n ** 64n - 1n, 2n ** 53n, 2n ** 40n, 2n ** 32n]) {
    refused(
      `a zip64 directory whose ${what} is ${value}`,
      () => {
        const bytes = zip([['a/data.pkl', pickle.stop]], { zip64: true });
        bytes.writeBigUInt64LE(value, bytes.length - 22 - 20 - 56 + at);
        return bytes;
      },
      { message: /damaged or truncated/ },
    );
  }
}

// What pickles can name
const systemCall = (trace: string) => [
  pickle.global('posix', 'system'),
  ...[pickle.mark, pickle.text(`touch ${trace}`), pickle.tuple, pickle.reduce],
];
test('a pickle that runs a command is refused and does not run it', async (context) => {
  const folder = temporaryFolder(context);
  const file = join(folder, 'x.bin');
  const trace = join(folder, 'executed');
  const program = Buffer.concat([pickle.protocol, ...systemCall(trace), pickle.stop]);
  writeFileSync(file, archive(program, []));
  await assert.rejects(readTorchSave(file), (error) =>
    assertRefusal(error, untrusted(/names "posix\.system" and could run code.*weights_only=False/)),
  );
  assert.equal(existsSync(trace), false);
});
for (const [module, name] of [
  ['builtins', 'eval'],
  ['builtins', 'getattr'],
  ['torch', 'load'],
  ['torch.hub', 'load'],
  ['torch._utils', '_rebuild_tensor_v3'],
  ['torch._utils', '_rebuild_parameter_with_state'],
  ['collections', 'defaultdict'],
  ['collections.OrderedDict', 'clear'],
  ['pytorch_lightning.callbacks.model_checkpoint', 'ModelCheckpoint'],
  ['numpy.core.multiarray', 'scalar'],
  ['', ''],
  ['__proto__', 'constructor'],
  ['os', `${'x'.repeat(250)}`],
] as const) {
  refusedPickle(
    `the name ${module}.${name.slice(0, 30)}`,
    () => [pickle.global(module, name)],
    untrusted(/could run code when Python loads it/),
  );
}
refusedPickle(
  'a name from the stack',
  () => [Buffer.from('\x8c\x02os\x8c\x06system\x93', 'latin1')],
  untrusted(/names "os\.system"/),
);
refusedPickle(
  'an unknown class in an unused part of a training checkpoint',
  () => [
    ...[pickle.emptyDictionary, pickle.mark, pickle.text('callbacks')],
    ...[pickle.global('evil', 'Class'), pickle.setItems],
  ],
  untrusted(/names "evil\.Class"/),
);
refusedPickle(
  'a storage of numbers that are not read',
  () => [pickle.global('torch', 'ShortStorage')],
  {
    message: /torch\.ShortStorage, whose numbers torchbrush does not read/,
  },
);
refusedPickle('a name without end', () => [Buffer.from(`c${'x'.repeat(1000)}`)], {
  message: /a name has no end/,
});

// What pickles can do
const ordered = pickle.global('collections', 'OrderedDict');
for (const [what, text, reason] of [
  ['an old operation', 'iposix\nsystem\n', /the operation 0x69 is none that torch\.save uses/],
  ['an operation for objects', ')\x81', /the operation 0x81/],
  ['an unknown operation', '\xff', /the operation 0xff/],
  ['a call of a number', 'K\x01)R', /something is called that is no function/],
  ['a call of a text', 'X\x04\0\0\0evil)R', /something is called that is no function/],
  ['a call of a list', '])R', /something is called that is no function/],
  ['a call without arguments', `${ordered}NR`, /something is called that is no function/],
  ['a dictionary of arguments', `${ordered}(Ntbt`, /sets the state of something/],
  ['arguments for an OrderedDict', `${ordered}(NtR`, /an OrderedDict is made in an unknown way/],
  ['a state of no dictionary', ')}b', /sets the state of something that is no dictionary/],
  ['a state that is no dictionary', '}Nb', /sets the state of something that is no dictionary/],
  ['nothing', '', /a value is missing/],
  ['a text that is cut off', 'X\xff\xff\xff\x7f', /it is cut off/],
  ['bytes that are cut off', 'B\xff\xff\xff\xff', /it is cut off/],
  ['a number that is cut off', 'G\0\0', /it is cut off/],
  ['a mark that is missing', 't', /a mark is missing/],
  ['an append to nothing', 'Na', /a value is missing/],
  ['an append to a dictionary', '}Na', /appends to something that is no list/],
  ['half an item', '}(Nu', /sets items of something that is no dictionary/],
  ['an item of a list', '](NNu', /sets items of something that is no dictionary/],
  ['a memory that is empty', 'h\x07', /recalls 7, which it never kept/],
  ['keeping nothing', 'q\x07', /a value is missing/],
  ['a name that is a number', 'K\x01K\x02\x93', /a name is no text/],
  ['a storage that is a number', 'K\x01Q', /a storage is described in an unknown way/],
  ['a list', '](NNe', /holds no tensors/],
  ['a number', 'K\x01', /holds no tensors/],
  ['an empty dictionary', '}', /holds no tensors/],
  ['a dictionary of texts', '}(X\x01\0\0\0ax\x01\0\0\0bu', /the operation 0x78/],
  ['a dictionary that is its own state_dict', '}q\0(X\x0a\0\0\0state_dicth\0u', /holds no tensors/],
  ['an old protocol', '\x80\x01', /protocol 1 is unknown/],
] as const) {
  refusedPickle(what, () => [Buffer.from(text, 'latin1')], { message: reason });
}

// What pickles can exhaust: time and memory stay small.
const stats = () => process.memoryUsage().rss / 2 ** 20;
for (const [what, parts] of Object.entries<() => Buffer>({
  'ten million lists': () => Buffer.alloc(1e7, ']'),
  'ten million dictionaries': () => Buffer.alloc(1e7, '}'),
  'ten million marks': () => Buffer.alloc(1e7, '('),
  'lists in lists without end': () =>
    Buffer.concat([Buffer.alloc(9e5, ']'), Buffer.alloc(9e6, 'a')]),
  'a list that doubles a million times': () =>
    Buffer.from(`]q\0${'(h\0h\0e'.repeat(400_000)}`, 'latin1'),
  'a memory of a million things': () => Buffer.from(`N${'\x94'.repeat(2e6)}`, 'latin1'),
  'forty million bytes': () => Buffer.alloc(4e7, 'N'),
})) {
  test(`${what} end in a refusal before they take much memory`, async (context) => {
    const file = join(temporaryFolder(context), 'x.bin');
    writeFileSync(file, archive(Buffer.concat([pickle.protocol, parts()]), []));
    const before = stats();
    await assert.rejects(readTorchSave(file), (error) =>
      assertRefusal(error, { message: /more than 1000000 operations|too large/ }),
    );
    assert.ok(stats() - before < 400, `${stats() - before} MiB more`);
  });
}

// What pickles can say of tensors
const rebuild = pickle.global('torch._utils', '_rebuild_tensor_v2');
const integers = (values: number[]) => [pickle.mark, ...values.map(pickle.integer), pickle.tuple];
const tensor = (
  start: number,
  shape: number[],
  strides: number[],
  of = pickledStorage(storage),
) => [
  ...[rebuild, pickle.mark, of, pickle.integer(start), ...integers(shape), ...integers(strides)],
  ...[pickle.tuple, pickle.reduce],
];
for (const [what, start, shape, strides] of [
  ['starts behind its storage', 6, [1], [1]],
  ['starts before its storage', -1, [1], [1]],
  ['ends behind its storage', 0, [7], [1]],
  ['steps out of its storage', 0, [2, 2], [5, 1]],
  ['steps backwards', 5, [2], [-1]],
  ['has a negative size', 0, [-1], [1]],
  ['is beyond all size', 0, [2 ** 40, 2 ** 40], [2 ** 40, 1]],
  ['is empty behind its storage', 7, [0], [1]],
  ['has fewer strides than sizes', 0, [2, 2], [1]],
  ['has more strides than sizes', 0, [2], [1, 1]],
  ['has a hundred dimensions', 0, Array<number>(100).fill(1), Array<number>(100).fill(1)],
] as const) {
  refusedPickle(`a tensor that ${what}`, () => tensor(start, [...shape], [...strides]), {
    message: /is damaged: a tensor (of shape .* ends at element|is described in an unknown way)/,
  });
}
for (const [what, spoilt] of [
  ['is missing', { key: '1' }],
  ['lies elsewhere', { key: '../version' }],
  ['has another size', { elements: 7 }],
  ['has another size of number', { type: 'DoubleStorage' }],
  ['has a negative size', { elements: -6 }],
  ['has a size beyond all numbers', { elements: 2 ** 62 }],
] as const) {
  const other = { ...storage, ...spoilt };
  refusedPickle(`a storage that ${what}`, () => tensor(0, [1], [1], pickledStorage(other)), {
    message: /storage .* is missing|should have .* bytes but has 24|described in an unknown way/,
  });
}
refusedPickle(
  'a parameter of a number',
  () => [
    ...[pickle.global('torch._utils', '_rebuild_parameter'), pickle.mark, pickle.integer(1)],
    ...[pickle.tuple, pickle.reduce],
  ],
  { message: /a parameter is no tensor/ },
);

test('a shape that changes after it was checked changes nothing', async (context) => {
  const file = join(temporaryFolder(context), 'x.bin');
  // The shape is kept, and a further size is appended once the tensor is made.
  const shape = Buffer.concat([...integers([2, 3]), Buffer.from('q\x09')]);
  const program = Buffer.concat([
    ...[pickle.protocol, pickle.emptyDictionary, pickle.mark, pickle.text('w')],
    ...[rebuild, pickle.mark, pickledStorage(storage), pickle.integer(0), shape],
    ...[...integers([3, 1]), pickle.tuple, pickle.reduce],
    ...[pickle.text('x'), Buffer.from('h\x09K\x63a'), pickle.setItems, pickle.stop],
  ]);
  writeFileSync(file, archive(program, [storage]));
  assert.deepEqual((await readTorchSave(file)).get('w')?.shape, [2, 3]);
});
