// Renders the demo's input pictures on white, 256x256 and 64x64.
//
//   node render_inputs.mjs --modules DIR --out models/demo/inputs

import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { modules: { type: 'string' }, out: { type: 'string' } } });
if (values.modules === undefined || values.out === undefined) {
  throw new Error('usage: render_inputs.mjs --modules DIR --out DIR');
}
const modules = resolve(values.modules);
const require = createRequire(join(modules, 'package.json'));
const sharp = require('sharp');

function iconify(name, icon) {
  const set = require(`@iconify-json/${name}/icons.json`);
  const { body, width = set.width, height = set.height } = set.icons[icon];
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
    `viewBox="0 0 ${width} ${height}" width="256" height="256">${body}</svg>`;
  return () => sharp(Buffer.from(svg));
}

const pictures = {
  'house-noto': iconify('noto', 'house'),
  'apple-3d': () => sharp(join(modules, 'node_modules/@lobehub/fluent-emoji-3d/assets/1f34e.webp')),
  'cat-flat': iconify('fluent-emoji-flat', 'cat'),
};

mkdirSync(values.out, { recursive: true });
for (const [name, open] of Object.entries(pictures)) {
  for (const size of [256, 64]) {
    const file = join(values.out, size === 256 ? `${name}.png` : `${name}-${size}.png`);
    // Two passes: sharp would otherwise flatten before it resizes, and fringe.
    const resized = await open().resize(size, size, { fit: 'contain' }).png().toBuffer();
    await sharp(resized)
      .flatten({ background: '#ffffff' })
      .removeAlpha()
      .png({ compressionLevel: 9 })
      .toFile(file);
  }
}
