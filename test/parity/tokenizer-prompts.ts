/** Prompts for the live tokenizer test: every corner of Unicode, from a seed. */

/** A small deterministic generator (mulberry32): numbers from 0 up to, not including, 1. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const words = (
  'a photo of an astronaut riding a horse on mars highly detailed digital painting artstation ' +
  "Don't WE'LL they're I'VE it's I'm you'd O'Reilly rock'n'roll 8k 4K 1970s 3.14 (masterpiece:1.2) " +
  'café naïve Zürich São-Paulo straße STRASSE İstanbul ıIİi ΣΊΣΥΦΟΣ ΌΔΟΣ ὈΔΥΣΣΕΎΣ ﬁnal ﬄ ſpecial ' +
  'Å K Å ẞ Ǆ ǅ ǆ Ω Привет МИР Ёлка тест שלום עולם مرحبا بالعالم नमस्ते हिन्दी ภาษาไทย ລາວ ខ្មែរ ' +
  '한국어 한글 안녕 日本語 ひらがな カタカナ ｶﾞ が か\u3099 漢字 𠮷野家 𝒜𝓫 𝟘𝟙 ⅷ Ⅷ ½ ② ٣٤٥ ०१२ １２３ ໕ 𑁦 ' +
  'Ꭰꭰ ᲐᲑ აბ Ⴀ ⴀ Ⱥ Ɐ ꟹ Ꞔ 𐐀𐐨 𞤀𞤢 𖹀 Ⴭ Ა</w> &amp; &lt;b&gt; <b> #tag @user snake_case ' +
  'http://a.b/c?d=e%20f \\n {curly} [square] ~tilde~ `code` … — “quotes” ‘single’ ’s don’t •'
).split(' ');

const emoji = '😀 👩‍👩‍👧‍👦 🧑🏽‍🚀 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☎︎ 1️⃣ 👍🏿 🫠 🪿 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ©️ ™ 🀄 🃏 🈶'.split(' ');

const spaces =
  '\t\n\v\f\r \u0085\u00a0\u1680\u180e\u2000\u2003\u2009\u200a\u200b\u200c\u200d\u200e\u2028\u2029' +
  '\u202f\u205f\u2060\u3000\ufeff\u001c\u001f';

const specials = [
  '<|startoftext|>',
  '<|endoftext|>',
  '<|EndOfText|>',
  '<|STARTOFTEXT|>',
  '<|endoftext|',
  '|>',
  '<|',
  'startoftext',
  '<|end\u200boftext|>',
  '<|endoftext|><|endoftext|>',
  '!',
  '!!',
  '! !',
  '</w>',
  '<cat-toy>',
  '<Cat-Toy>',
  '  <cat-toy>  ',
  'x<cat-toy>y',
  '<UPPER>',
  '<upper>',
  '[left]',
  ' [right] ',
];

/** Ranges of code points that are worth visiting more often than their size says. */
const blocks: readonly (readonly [number, number])[] = [
  [0x00, 0x1f],
  [0x20, 0x7e],
  [0x7f, 0xff],
  [0x100, 0x24f],
  [0x250, 0x36f],
  [0x370, 0x52f],
  [0x530, 0x8ff],
  [0x900, 0xdff],
  [0xe00, 0x109f],
  [0x10a0, 0x1c8f],
  [0x1c90, 0x1fff],
  [0x2000, 0x2bff],
  [0x2c00, 0x2fff],
  [0x3000, 0x33ff],
  [0xa000, 0xabff],
  [0xd7b0, 0xd7ff],
  [0xe000, 0xf8ff],
  [0xf900, 0xfaff],
  [0xfb00, 0xffff],
  [0x10000, 0x107ff],
  [0x10800, 0x10fff],
  [0x11000, 0x11fff],
  [0x12000, 0x16fff],
  [0x1b000, 0x1cfff],
  [0x1d000, 0x1dfff],
  [0x1e000, 0x1efff],
  [0x1f000, 0x1fbff],
  [0x20000, 0x323af],
  [0x323b0, 0xdffff],
  [0xe0000, 0xe01ef],
  [0xf0000, 0x10ffff],
];
const marks: readonly (readonly [number, number])[] = [
  [0x300, 0x36f],
  [0x483, 0x487],
  [0x591, 0x5c7],
  [0x610, 0x65f],
  [0x7eb, 0x7fd],
  [0x897, 0x8ff],
  [0x93c, 0x9fe],
  [0xa3c, 0xb57],
  [0xbbe, 0xd57],
  [0xdca, 0xeba],
  [0xf18, 0xfc6],
  [0x1037, 0x135f],
  [0x1714, 0x1add],
  [0x1b34, 0x1dff],
  [0x20d0, 0x20f0],
  [0x2cef, 0x302f],
  [0x3099, 0x309a],
  [0xa66f, 0xabed],
  [0xfe20, 0xfe2f],
  [0x10a0d, 0x10eff],
  [0x11046, 0x11d97],
  [0x16af0, 0x16fff],
  [0x1d165, 0x1d244],
  [0x1e000, 0x1e94a],
  [0x1161, 0x1175],
  [0x11a8, 0x11c2],
];

type Random = () => number;
const pick = <T>(random: Random, list: readonly T[]): T =>
  list[Math.floor(random() * list.length)] as T;
const count = (random: Random, most: number) => Math.floor(random() * (most + 1));

function codePointOf(random: Random, ranges: readonly (readonly [number, number])[]): string {
  const [first, last] = pick(random, ranges);
  const codePoint = first + Math.floor(random() * (last - first + 1));
  // JSON cannot carry half of a pair to Python.
  return codePoint >= 0xd800 && codePoint < 0xe000 ? '\ufffd' : String.fromCodePoint(codePoint);
}

const many = (random: Random, most: number, make: () => string) =>
  Array.from({ length: 1 + count(random, most - 1) }, make).join('');

function fragment(random: Random): string {
  const kinds: (() => string)[] = [
    () => pick(random, words),
    () => pick(random, words).toUpperCase(),
    () => pick(random, words).normalize(pick(random, ['NFD', 'NFKD', 'NFC'])),
    () => pick(random, emoji),
    () => pick(random, specials),
    () => many(random, 3, () => pick(random, [...spaces])),
    () => many(random, 6, () => codePointOf(random, blocks)),
    () => pick(random, words) + many(random, 4, () => codePointOf(random, marks)),
    () => many(random, 3, () => codePointOf(random, blocks) + codePointOf(random, marks)),
    () => many(random, 5, () => codePointOf(random, marks)),
    () => many(random, 8, () => String(count(random, 9))),
    () => many(random, 8, () => pick(random, [...'\'’.,:;!?()-_=+*/<>|"&%$#@^~'])),
    () => pick(random, words).repeat(1 + count(random, 12)),
  ];
  return pick(random, kinds)();
}

/** A prompt of up to 25 fragments, some of them without a space between. */
export function makePrompt(random: Random): string {
  const separators = [' ', ' ', ' ', '', '', ', ', '\n', '  '];
  let prompt = '';
  for (let n = count(random, 24); n >= 0; n--)
    prompt += fragment(random) + pick(random, separators);
  return prompt;
}
