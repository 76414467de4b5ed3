import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { ImageError } from '../lib/errors.js';
import { type ImageSource, type LoadImageOptions, loadImage } from '../lib/image.js';

/** Written by golden/generate_images.py from Pillow. */
interface Golden {
  images: { name: string; file: string; size: [number, number]; rgb: string }[];
}

const golden = JSON.parse(
  await readFile(new URL('golden/images.json', import.meta.url), 'utf8'),
) as Golden;

function fileOf(name: string): Buffer {
  const found = golden.images.find((image) => image.name === name);
  assert.ok(found, name);
  return Buffer.from(found.file, 'base64');
}

async function assertImageError(
  source: ImageSource,
  message: RegExp,
  options?: LoadImageOptions,
): Promise<void> {
  await assert.rejects(loadImage(source, options), (error: ImageError) => {
    assert.ok(error instanceof ImageError, String(error));
    assert.equal(error.code, 'ERR_IMAGE');
    assert.match(error.message, message);
    return true;
  });
}

let work: string;
let path: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'torchbrush-image-'));
  path = join(work, 'a b#%.png');
  await writeFile(path, fileOf('rgb.png'));
});
after(() => rm(work, { recursive: true, force: true }));

describe('loadImage', () => {
  for (const { name, file, size, rgb } of golden.images) {
    test(`reads ${name} to the bytes that Pillow gives`, async () => {
      const image = await loadImage(Buffer.from(file, 'base64'));
      assert.deepEqual([image.width, image.height], size);
      assert.deepEqual(Buffer.from(image.data), Buffer.from(rgb, 'base64'));
    });
  }

  test('takes paths, addresses, bytes, pictures and sharp instances alike', async () => {
    const bytes = fileOf('rgb.png');
    const expected = await loadImage(bytes);
    const sources: ImageSource[] = [
      path,
      pathToFileURL(path),
      pathToFileURL(path).href,
      new Uint8Array(bytes),
      new Uint8Array(bytes).buffer,
      `data:image/png;base64,${bytes.toString('base64')}`,
      new URL(`data:image/png;base64,${bytes.toString('base64')}`),
      expected,
      sharp(bytes),
    ];
    for (const source of sources) assert.deepEqual(await loadImage(source), expected);
  });

  test('runs the pipeline of a sharp instance, which can be used again', async () => {
    const pipeline = sharp(fileOf('rgba.png')).resize(5, 4);
    const [first, second] = [await loadImage(pipeline), await loadImage(pipeline)];
    assert.deepEqual([first.width, first.height], [5, 4]);
    assert.deepEqual(first, second);
    const grey = sharp(fileOf('rgb.png')).extractChannel(1).toColourspace('b-w');
    assert.equal((await loadImage(grey)).data.length, 11 * 7 * 3);
    assert.deepEqual(
      await loadImage(sharp(fileOf('orientation-6.jpg'))),
      await loadImage(fileOf('orientation-6.jpg')),
    );
  });

  test('lays transparent pixels on the colour that is asked for', async () => {
    const bytes = await sharp(Buffer.from([10, 20, 30, 0, 10, 20, 30, 255, 100, 100, 100, 51]), {
      raw: { width: 3, height: 1, channels: 4 },
    })
      .png()
      .toBuffer();
    const white = await loadImage(bytes);
    assert.deepEqual([...white.data], [255, 255, 255, 10, 20, 30, 224, 224, 224]);
    const red = await loadImage(bytes, { background: '#f00' });
    assert.deepEqual([...red.data], [255, 0, 0, 10, 20, 30, 224, 20, 20]);
  });

  test('leaves a colour profile alone unless told to apply it', async () => {
    const bytes = fileOf('rgb-profile.png');
    const [plain, applied] = [
      await loadImage(bytes),
      await loadImage(bytes, { applyColorProfile: true }),
    ];
    assert.deepEqual(plain, await loadImage(fileOf('rgb.png')));
    // The profile swaps red and green; the conversion may round differently by one.
    for (let i = 0; i < plain.data.length; i += 3) {
      assert.ok(Math.abs((plain.data[i] as number) - (applied.data[i + 1] as number)) <= 1);
    }
  });

  test('says what is wrong with a source', async () => {
    await assertImageError(join(work, 'nothing.png'), /nothing\.png: there is no such file/);
    await assertImageError(work, /it is not a file/);
    await assertImageError(pathToFileURL(join(work, 'nothing.png')), /no such file/);
    await assertImageError('s3://bucket/x.png', /s3: are not supported/);
    await assertImageError('data:nonsense', /the data: URL: it is not well formed/);
    await assertImageError(new Uint8Array(0), /not an image/);
    await assertImageError(Buffer.from('<html>not found</html>'), /not an image/);
    await assertImageError(fileOf('rgb.png').subarray(0, 60), /damaged or cut off/);
    const text = join(work, 'text.png');
    await writeFile(text, 'hello');
    await assertImageError(text, /text\.png: it is not an image/);
  });

  test('refuses pictures that are cut off, in each format', async () => {
    const large = (await loadImage(path)).resize(300, 200);
    for (const format of ['png', 'jpeg', 'webp'] as const) {
      const bytes = await large.toBuffer(format);
      for (const part of [0.1, 0.5, 0.95]) {
        const cut = bytes.subarray(0, Math.floor(bytes.length * part));
        await assertImageError(cut, /damaged or cut off/);
      }
    }
  });

  test('refuses pictures above the pixel limit before it decodes them', async () => {
    // A few bytes that unfold to 900 million pixels.
    const bomb = '<svg xmlns="http://www.w3.org/2000/svg" width="30000" height="30000"></svg>';
    await assertImageError(
      Buffer.from(bomb),
      /30000×30000 = 900000000 pixels, more than the limit of 268402689.*limitInputPixels/,
    );
    await assertImageError(path, /11×7 = 77 pixels, .*limit of 76/, { limitInputPixels: 76 });
    await loadImage(path, { limitInputPixels: 77 });
    await assertImageError(path, /more than 20 bytes/, { limitInputBytes: 20 });
  });

  test('refuses arguments that cannot be meant', async () => {
    const code = 'ERR_INVALID_ARGUMENT';
    for (const source of [undefined, null, 7, '', {}, []]) {
      await assert.rejects(loadImage(source as never), { code });
    }
    await assert.rejects(loadImage(path, { background: 'white' }), { code });
    await assert.rejects(loadImage(path, { limitInputPixels: 0 }), { code });
    await assert.rejects(loadImage(path, { timeout: -1 }), { code });
    await assert.rejects(loadImage(path, { signal: 1 as never }), { code });
    const misspelt = { limit_input_pixels: 1 } as object;
    const message = /It is called limitInputPixels here/;
    await assert.rejects(loadImage(path, misspelt), { code, message });
  });
});

describe('loadImage from an http address', () => {
  let server: Server;
  let origin: string;
  before(async () => {
    const picture = fileOf('rgb.png');
    server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://x');
      if (pathname === '/picture.png') response.end(picture);
      else if (pathname === '/moved') response.writeHead(302, { location: '/picture.png' }).end();
      else if (pathname === '/loop') response.writeHead(302, { location: '/loop' }).end();
      else if (pathname === '/file') response.writeHead(302, { location: `file://${path}` }).end();
      else if (pathname === '/login') {
        const expected = `Basic ${Buffer.from('me:päss').toString('base64')}`;
        if (request.headers.authorization === expected) response.end(picture);
        else response.writeHead(401).end();
      } else if (pathname === '/page') response.end('<html></html>');
      else if (pathname === '/announced') {
        response.writeHead(200, { 'content-length': 10_000_000 });
        response.write(picture);
      } else if (pathname === '/endless') {
        const timer = setInterval(() => response.write(Buffer.alloc(65_536)), 1);
        response.on('close', () => clearInterval(timer));
      } else if (pathname === '/broken') {
        response.writeHead(200, { 'content-length': picture.length });
        response.write(picture.subarray(0, 40), () => response.destroy());
      } else if (pathname !== '/silent') response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  test('reads the picture, and follows redirections', async () => {
    const expected = await loadImage(path);
    assert.deepEqual(await loadImage(`${origin}/picture.png`), expected);
    assert.deepEqual(await loadImage(new URL(`${origin}/moved`)), expected);
  });

  test('says what the server did wrong', async () => {
    await assertImageError(`${origin}/nothing`, /the server answered 404 Not Found/);
    await assertImageError(`${origin}/page`, /\/page: it is not an image/);
    await assertImageError(`${origin}/loop`, /redirect/);
    await assertImageError(`${origin}/file`, /Cannot read/);
    await assertImageError(`${origin}/broken`, /Cannot read/);
    await assertImageError('http://', /not a well-formed address/);
    await assertImageError(
      'http://127.0.0.1:9/x.png',
      /Cannot read http:\/\/127\.0\.0\.1:9\/x\.png/,
    );
  });

  test('logs in with the name and password of an address', async () => {
    const login = origin.replace('//', '//me:p%C3%A4ss@');
    assert.deepEqual(await loadImage(`${login}/login`), await loadImage(path));
    await assertImageError(`${origin}/login`, /401/);
  });

  test('leaves name, password and query out of messages', async () => {
    const address = `${origin.replace('//', '//user:secret@')}/nothing?token=secret`;
    await assert.rejects(loadImage(address), (error: Error) => !error.message.includes('secret'));
  });

  test('gives up on too many bytes, announced or not, and after the timeout', async () => {
    const limitInputBytes = 1_000_000;
    await assertImageError(`${origin}/announced`, /more than 1000000 bytes/, { limitInputBytes });
    await assertImageError(`${origin}/endless`, /more than 1000000 bytes/, { limitInputBytes });
    await assertImageError(`${origin}/silent`, /did not answer within 50 ms/, { timeout: 50 });
  });

  test('rejects with the reason of an abort', async () => {
    const reason = new Error('enough');
    await assert.rejects(loadImage(path, { signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const loading = loadImage(`${origin}/silent`, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    await assert.rejects(loading, reason);
  });
});
