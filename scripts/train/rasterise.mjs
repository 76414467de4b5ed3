// Rasterises the three emoji sets to one raw RGBA file and an index.
//
//   node rasterise.mjs --modules DIR --out DIR [--size 64] [--concepts FILE]
//
// DIR/node_modules must hold the packages named in README.md. The output is
// pictures.rgba (size*size*4 bytes a picture, straight alpha) and pictures.json
// (one row a picture: code point, style, label, tags, group).

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    modules: { type: 'string' },
    out: { type: 'string' },
    size: { type: 'string', default: '64' },
  },
});
if (values.modules === undefined || values.out === undefined) {
  throw new Error('usage: rasterise.mjs --modules DIR --out DIR [--size 64]');
}
const size = Number(values.size);
const modules = resolve(values.modules);
const require = createRequire(join(modules, 'package.json'));
const sharp = require('sharp');

// U+FE0F (emoji presentation) appears in some sets' names and not in others'.
const normalise = (code) => code.toLowerCase().replaceAll('-fe0f', '');

function fluent3d() {
  const folder = join(modules, 'node_modules/@lobehub/fluent-emoji-3d/assets');
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.webp'))
    .sort();
  return new Map(
    files.map((name) => [normalise(name.slice(0, -5)), () => sharp(join(folder, name))]),
  );
}

function iconify(name) {
  const set = require(`@iconify-json/${name}/icons.json`);
  const codes = require(`@iconify-json/${name}/chars.json`);
  const art = new Map();
  for (const [code, icon] of Object.entries(codes).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = set.icons[icon];
    if (entry === undefined) continue; // an alias with a transformation: not needed
    const width = entry.width ?? set.width;
    const height = entry.height ?? set.height;
    const svg =
      `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
      `viewBox="${entry.left ?? 0} ${entry.top ?? 0} ${width} ${height}" ` +
      `width="${size * 4}" height="${size * 4}">${entry.body}</svg>`;
    art.set(normalise(code), () => sharp(Buffer.from(svg)));
  }
  return art;
}

const styles = { '3d': fluent3d(), flat: iconify('fluent-emoji-flat'), noto: iconify('noto') };
const rows = [];
const pictures = [];
for (const emoji of require('emojibase-data/en/data.json')) {
  const code = normalise(emoji.hexcode);
  for (const [style, art] of Object.entries(styles)) {
    const open = art.get(code);
    if (open === undefined) continue;
    const picture = await open()
      .resize(size, size, { fit: 'contain', background: { r: 0, g: 0, b: 0, alpha: 0 } })
      .ensureAlpha()
      .raw()
      .toBuffer();
    if (picture.length !== size * size * 4) {
      throw new Error(`${style} ${code}: ${picture.length} bytes, expected ${size * size * 4}`);
    }
    rows.push({
      code,
      style,
      label: emoji.label,
      tags: emoji.tags ?? [],
      group: emoji.group ?? null,
    });
    pictures.push(picture);
  }
}
mkdirSync(values.out, { recursive: true });
writeFileSync(join(values.out, 'pictures.rgba'), Buffer.concat(pictures));
writeFileSync(join(values.out, 'pictures.json'), JSON.stringify({ size, rows }));
console.log(`${rows.length} pictures of ${size}x${size}`);
