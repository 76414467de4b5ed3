import assert from 'node:assert/strict';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import sharp from 'sharp';
import { Image, loadImage } from '../lib/image.js';

let work: string;
before(async () => {
  work = await realpath(await mkdtemp(join(tmpdir(), 'torchbrush-save-')));
});
after(() => rm(work, { recursive: true, force: true }));

const image = Image.fromRaw(
  Uint8Array.from({ length: 16 * 12 * 3 }, (_, i) => (i * 7) % 256),
  16,
  12,
);

test('the extension names the format, in either case', async () => {
  for (const [name, format] of Object.entries({
    'a.png': 'png',
    'b.jpg': 'jpeg',
    'c.JPEG': 'jpeg',
    'd.webp': 'webp',
  })) {
    const path = join(work, name);
    await image.save(path);
    assert.equal((await sharp(path).metadata()).format, format);
  }
  assert.deepEqual(await loadImage(join(work, 'a.png')), image);
});

test('an unknown extension is refused with those that are known', async () => {
  for (const name of ['x.bmp', 'x', '.png', 'x.png/']) {
    await assert.rejects(image.save(join(work, 'sub', name)), (error: Error & { code: string }) => {
      assert.match(error.code, /ERR_INVALID_ARGUMENT|ERR_IMAGE/);
      return true;
    });
  }
  await assert.rejects(image.save(join(work, 'x.bmp')), { message: /\.png, \.jpg/ });
  await assert.rejects(image.save('' as string), { code: 'ERR_INVALID_ARGUMENT' });
});

test('a missing folder is an error that says so', async () => {
  await assert.rejects(image.save(join(work, 'no', 'where.png')), {
    code: 'ERR_IMAGE',
    message: /there is no folder/,
  });
});

test('a file is replaced as a whole, and nothing is left beside it', async () => {
  const folder = join(work, 'replaced');
  await mkdir(folder);
  const path = join(folder, 'x.png');
  await writeFile(path, 'old');
  await image.save(path);
  assert.deepEqual(await loadImage(path), image);
  // A folder of that name cannot be replaced: the temporary file goes away again.
  await mkdir(join(folder, 'y.png'));
  await assert.rejects(image.save(join(folder, 'y.png')), { code: 'ERR_IMAGE' });
  assert.deepEqual((await readdir(folder)).sort(), ['x.png', 'y.png']);
});

test('many saves to one path at once leave one complete file', async () => {
  const folder = await mkdtemp(join(work, 'many-'));
  const path = join(folder, 'x.png');
  await Promise.all(Array.from({ length: 12 }, () => image.save(path)));
  assert.deepEqual(await readdir(folder), ['x.png']);
  assert.deepEqual(await loadImage(path), image);
});

test('a link keeps being one', { skip: process.platform === 'win32' }, async () => {
  const folder = await mkdtemp(join(work, 'link-'));
  const target = join(folder, 'target.png');
  await writeFile(target, 'old');
  await symlink(target, join(folder, 'link.png'));
  await image.save(join(folder, 'link.png'));
  assert.deepEqual(await loadImage(await readFile(target)), image);
});

test('toBuffer takes a format and a quality', async () => {
  const low = await image.toBuffer('jpeg', { quality: 10 });
  const high = await image.toBuffer('jpeg', { quality: 100 });
  assert.ok(low.length < high.length);
  assert.deepEqual(await loadImage(await image.toBuffer()), image);
  const code = 'ERR_INVALID_ARGUMENT';
  await assert.rejects(image.toBuffer('gif' as never), { code });
  await assert.rejects(image.toBuffer('jpeg', { quality: 0 }), { code });
  const misspelt = { Quality: 10 } as object;
  await assert.rejects(image.toBuffer('jpeg', misspelt), { code, message: /no option Quality/ });
});

test('toSharp hands the pixels on', async () => {
  const { data, info } = await image.toSharp().raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height, info.channels], [16, 12, 3]);
  assert.deepEqual(data, Buffer.from(image.data));
});

test('fromRaw checks the number of bytes and does not copy them', () => {
  const data = new Uint8Array(2 * 3 * 3);
  const made = Image.fromRaw(data, 2, 3);
  data[0] = 9;
  assert.equal(made.data[0], 9);
  assert.equal(Image.fromRaw(new Uint8ClampedArray(data.buffer), 3, 2).data[0], 9);
  const code = 'ERR_INVALID_ARGUMENT';
  assert.throws(() => Image.fromRaw(data, 3, 3), { code, message: /27 bytes/ });
  assert.throws(() => Image.fromRaw(data, 0, 3), { code });
  assert.throws(() => Image.fromRaw([1, 2, 3] as never, 1, 1), { code });
});
