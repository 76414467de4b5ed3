import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ClipTokenizer } from '../lib/tokenizer/index.js';

/** Written by golden/generate_tokenizer.py from transformers' CLIPTokenizer. */
interface Layout {
  title: string;
  files: Record<string, { model?: Record<string, unknown> }>;
  texts: number[];
  special: { pad: number; bos: number; eos: number; unk: number };
  size: number;
  modelMaxLength: number | null;
  ids: number[][];
  decoded: string[];
  decodedWithoutSpecial: string[];
  rows: { inputIds: number[][]; attentionMask: number[][] };
}
interface Golden {
  tokens: string[];
  merges: string[];
  texts: string[];
  layouts: Layout[];
}

const golden = JSON.parse(
  await readFile(new URL('golden/tokenizer.json', import.meta.url), 'utf8'),
) as Golden;
const vocab = Object.fromEntries(golden.tokens.map((token, id) => [token, id]));

let work: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'torchbrush-tokenizer-'));
});
after(() => rm(work, { recursive: true, force: true }));

async function writeFolder(layout: Layout, number: number): Promise<string> {
  const folder = join(work, String(number));
  await mkdir(folder);
  const write = (name: string, text: string) => writeFile(join(folder, name), text);
  const oneFile = layout.files['tokenizer.json'];
  if (oneFile === undefined) {
    await write('vocab.json', JSON.stringify(vocab));
    await write('merges.txt', ['#version: 0.2', ...golden.merges, ''].join('\n'));
  }
  for (const [name, content] of Object.entries(layout.files)) {
    const model = { ...content.model, vocab, merges: golden.merges };
    await write(name, JSON.stringify(content === oneFile ? { ...content, model } : content));
  }
  return folder;
}

describe('layouts of a tokenizer folder', () => {
  for (const [number, layout] of golden.layouts.entries()) {
    test(`"${layout.title}" gives the ids of transformers`, async () => {
      const tokenizer = await ClipTokenizer.fromFolder(await writeFolder(layout, number));
      assert.equal(tokenizer.padTokenId, layout.special.pad);
      assert.equal(tokenizer.bosTokenId, layout.special.bos);
      assert.equal(tokenizer.eosTokenId, layout.special.eos);
      assert.equal(tokenizer.unkTokenId, layout.special.unk);
      assert.equal(tokenizer.size, layout.size);
      assert.equal(tokenizer.modelMaxLength, layout.modelMaxLength ?? Number.POSITIVE_INFINITY);
      const texts = layout.texts.map((index) => golden.texts[index] as string);
      const skipSpecialTokens = true;
      for (const [i, text] of texts.entries()) {
        const ids = tokenizer.tokenize(text);
        assert.deepEqual(ids, layout.ids[i], text);
        assert.equal(tokenizer.decode(ids), layout.decoded[i]);
        assert.equal(tokenizer.decode(ids, { skipSpecialTokens }), layout.decodedWithoutSpecial[i]);
      }
      assert.deepEqual(tokenizer.encode(texts, { maxLength: 16 }), layout.rows);
    });
  }
});

describe('a tokenizer', () => {
  let tokenizer: ClipTokenizer;
  before(async () => {
    const folder = await writeFolder(golden.layouts[1] as Layout, 100);
    tokenizer = await ClipTokenizer.fromFolder(folder);
  });

  test('fills rows up to modelMaxLength unless told otherwise', () => {
    const { inputIds, attentionMask } = tokenizer.encode(['a red fox', '']);
    assert.equal(inputIds[0]?.length, 77);
    assert.deepEqual(attentionMask[1], [1, 1, ...new Array<number>(75).fill(0)]);
    assert.deepEqual(inputIds[1]?.slice(0, 3), [
      tokenizer.bosTokenId,
      tokenizer.eosTokenId,
      tokenizer.padTokenId,
    ]);
  });

  test('leaves rows as long as they are with padding none', () => {
    const { inputIds, attentionMask } = tokenizer.encode(['a fox'], { padding: 'none' });
    assert.deepEqual(inputIds[0]?.slice(1, -1), tokenizer.tokenize('a fox'));
    assert.equal(attentionMask[0]?.length, inputIds[0]?.length);
    assert.ok(attentionMask[0]?.every((value) => value === 1));
  });

  test('keeps the end token where it cuts, and does not cut when told so', () => {
    const long = 'fox '.repeat(200);
    const cut = tokenizer.encode([long]).inputIds[0];
    assert.equal(cut?.length, 77);
    assert.equal(cut?.at(-1), tokenizer.eosTokenId);
    const whole = tokenizer.encode([long], { truncation: false }).inputIds[0];
    assert.deepEqual(whole?.slice(1, -1), tokenizer.tokenize(long));
  });

  test('takes unpaired surrogates for U+FFFD', () => {
    for (const broken of ['\ud800', '\udc00', 'a\udbffb', '\udfff\ud800', '😀\ud83d']) {
      const repaired = Buffer.from(broken, 'utf8').toString('utf8');
      assert.deepEqual(tokenizer.tokenize(broken), tokenizer.tokenize(repaired));
    }
  });

  test('encodes a word of a hundred thousand letters without delay', () => {
    const ids = tokenizer.tokenize('lighthouse'.repeat(10_000));
    assert.ok(ids.length >= 10_000);
    assert.equal(tokenizer.decode(ids), 'lighthouse'.repeat(10_000));
  });

  test('gives the same ids again after its memory of words has been filled', () => {
    const before = tokenizer.tokenize('a red fox');
    for (let i = 0; i < 12_000; i++) tokenizer.tokenize(`x${i.toString(36)}`.replace(/\d/g, 'q'));
    assert.deepEqual(tokenizer.tokenize('a red fox'), before);
  });

  test('leaves ids that it does not know out of decoded texts', () => {
    assert.equal(tokenizer.decode([...tokenizer.tokenize('fox'), 1_000_000, -1]), 'fox');
  });

  test('finds added tokens as a whole and gives them the next free ids', async () => {
    const folder = await writeFolder(golden.layouts[1] as Layout, 101);
    const own = await ClipTokenizer.fromFolder(folder);
    const { size } = own;
    assert.equal(own.addTokens(['<my-style>', '<my-style>_1', 'fox</w>']), 3);
    assert.equal(own.tokenId('<my-style>'), size);
    assert.equal(own.tokenId('<my-style>_1'), size + 1);
    assert.equal(own.size, size + 2);
    const [first, second] = [size, size + 1];
    const of = own.tokenize('of');
    assert.deepEqual(own.tokenize('of <my-style> of<MY-STYLE>_1'), [...of, first, ...of, second]);
    assert.equal(own.decode([first]), '<my-style>');
    assert.equal(own.addTokens(['<my-style>']), 0);
  });

  test('refuses what cannot be meant', () => {
    const code = 'ERR_INVALID_ARGUMENT';
    assert.throws(() => tokenizer.encode(['a'], { maxLength: 1 }), { code });
    assert.throws(() => tokenizer.encode(['a'], { maxLength: 7.5 }), { code });
    assert.throws(() => tokenizer.encode(['a'], { maxLength: 1e30 }), {
      code,
      message: /max_position/,
    });
    assert.throws(() => tokenizer.encode(['a'], { padding: 'longest' as 'none' }), { code });
    assert.throws(() => tokenizer.encode('a' as unknown as string[]), { code });
    assert.throws(() => tokenizer.encode([7 as unknown as string]), { code });
  });

  test('asks for maxLength where the folder names none', async () => {
    const folder = await writeFolder(golden.layouts[0] as Layout, 102);
    const bare = await ClipTokenizer.fromFolder(folder);
    assert.throws(() => bare.encode(['a']), { code: 'ERR_INVALID_ARGUMENT' });
    assert.equal(bare.encode(['a'], { padding: 'none' }).inputIds[0]?.length, 3);
    assert.equal(bare.encode(['a'], { maxLength: 77 }).inputIds[0]?.length, 77);
  });
});
