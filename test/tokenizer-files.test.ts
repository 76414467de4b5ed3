import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CheckpointError } from '../lib/errors.js';
import { ClipTokenizer } from '../lib/tokenizer/index.js';

let work: string;
let count = 0;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'torchbrush-tokenizer-files-'));
});
after(() => rm(work, { recursive: true, force: true }));

const vocab = {
  a: 0,
  b: 1,
  'a</w>': 2,
  'b</w>': 3,
  'ab</w>': 4,
  '<|startoftext|>': 5,
  '<|endoftext|>': 6,
};
const good = { 'vocab.json': JSON.stringify(vocab), 'merges.txt': '#version: 0.2\na b</w>\n' };

/** A small tokenizer folder; undefined leaves a file out. */
async function makeFolder(files: Record<string, string | undefined>): Promise<string> {
  const folder = join(work, String(count++));
  await mkdir(folder);
  for (const [name, text] of Object.entries({ ...good, ...files })) {
    if (text !== undefined) await writeFile(join(folder, name), text);
  }
  return folder;
}

async function assertRefused(
  files: Record<string, string | undefined>,
  message: RegExp,
): Promise<void> {
  const folder = await makeFolder(files);
  await assert.rejects(ClipTokenizer.fromFolder(folder), (error: CheckpointError) => {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.code, 'ERR_CHECKPOINT');
    assert.match(error.message, message);
    assert.ok(error.message.includes(folder), 'the message names the folder');
    return true;
  });
}

test('a small folder loads, with either line ending and without a version line', async () => {
  for (const merges of ['a b</w>', 'a b</w>\n\n', '#version: 0.2\r\na b</w>\r\n']) {
    const tokenizer = await ClipTokenizer.fromFolder(await makeFolder({ 'merges.txt': merges }));
    assert.deepEqual(tokenizer.tokenize('ab AB b a'), [4, 4, 3, 2]);
    // What the vocabulary lacks is the unknown token, byte by byte.
    assert.deepEqual(tokenizer.tokenize('é'), [6, 6]);
  }
});

test('missing files are named with what would do', async () => {
  await assertRefused({ 'vocab.json': undefined }, /no vocab\.json, .*tokenizer\.json/);
  await assertRefused({ 'merges.txt': undefined }, /no merges\.txt/);
  await assertRefused(
    { 'vocab.json': undefined, 'merges.txt': undefined },
    /vocab\.json and merges/,
  );
  await assert.rejects(ClipTokenizer.fromFolder(join(work, 'nowhere')), { code: 'ERR_CHECKPOINT' });
});

test('files that are not JSON, or not of the right kind, are refused by name', async () => {
  await assertRefused({ 'vocab.json': '{"a": 0' }, /vocab\.json: it is not JSON/);
  await assertRefused({ 'vocab.json': '[]' }, /vocab\.json: it is not a JSON object/);
  await assertRefused({ 'vocab.json': '{"a": "0"}' }, /vocab\.json: the id of the token "a"/);
  await assertRefused({ 'vocab.json': '{"a": -1}' }, /the id of the token/);
  await assertRefused({ 'vocab.json': '{"a": 1e300}' }, /the id of the token/);
  await assertRefused({ 'tokenizer_config.json': 'null' }, /tokenizer_config\.json/);
  await assertRefused({ 'tokenizer_config.json': '\u0000\u0001' }, /tokenizer_config\.json/);
  await assertRefused({ 'special_tokens_map.json': '<html>' }, /special_tokens_map\.json/);
  await assertRefused({ 'added_tokens.json': '{"x": "y"}' }, /added_tokens\.json/);
});

test('broken contents are refused by name', async () => {
  const config = (value: unknown) => ({ 'tokenizer_config.json': JSON.stringify(value) });
  await assertRefused({ 'merges.txt': 'a b c\n' }, /merges\.txt: line 1/);
  await assertRefused({ 'merges.txt': '#version: 0.2\na  b\n' }, /merges\.txt: line 2/);
  await assertRefused({ 'merges.txt': 'b a</w>\n' }, /"ba<\/w>", which the vocabulary lacks/);
  await assertRefused(config({ model_max_length: '77' }), /model_max_length/);
  await assertRefused(config({ model_max_length: 0 }), /model_max_length/);
  await assertRefused(config({ pad_token: 7 }), /"pad_token"/);
  await assertRefused(config({ pad_token: null }), /"pad_token" is null/);
  await assertRefused(config({ added_tokens_decoder: [] }), /added_tokens_decoder/);
  await assertRefused(config({ added_tokens_decoder: { x: {} } }), /added_tokens_decoder/);
  await assertRefused(config({ added_tokens_decoder: { 1: 'a' } }), /added_tokens_decoder/);
  await assertRefused(config({ additional_special_tokens: 'x' }), /further special tokens/);
});

test('a tokenizer.json of another kind of text encoder is refused', async () => {
  const file = (value: unknown) => ({ 'tokenizer.json': JSON.stringify(value) });
  await assertRefused(file({}), /tokenizer\.json: it has no "model"/);
  await assertRefused(file({ model: { type: 'Unigram', vocab: [] } }), /"Unigram", not "BPE"/);
  await assertRefused(file({ model: { type: 'BPE' } }), /no vocabulary/);
  await assertRefused(file({ model: { vocab } }), /no list of merges/);
  await assertRefused(file({ model: { vocab, merges: ['a'] } }), /merge 1/);
  await assertRefused(file({ model: { vocab, merges: [['a', 1]] } }), /merge 1/);
  await assertRefused(
    file({ model: { vocab, merges: [] }, added_tokens: [{ content: 'x' }] }),
    /added_tokens/,
  );
});

test('tokenizer.json counts where both forms lie side by side', async () => {
  const model = { type: 'BPE', vocab, merges: [] };
  const folder = await makeFolder({
    'tokenizer.json': JSON.stringify({ model, added_tokens: [] }),
  });
  assert.deepEqual((await ClipTokenizer.fromFolder(folder)).tokenize('ab'), [0, 3]);
});

test('names that JavaScript objects know are tokens like others', async () => {
  const text = JSON.stringify(vocab).replace('{', '{"__proto__": 7, "constructor": 8, ');
  const tokenizer = await ClipTokenizer.fromFolder(await makeFolder({ 'vocab.json': text }));
  assert.equal(tokenizer.tokenId('__proto__'), 7);
  assert.equal(tokenizer.tokenId('constructor'), 8);
  assert.equal(tokenizer.tokenId('toString'), undefined);
});

test('files that are far too large, folders and devices are refused unread', async () => {
  const folder = await makeFolder({});
  await truncate(join(folder, 'merges.txt'), 2 ** 31);
  await assert.rejects(ClipTokenizer.fromFolder(folder), {
    message: /merges\.txt: it has 2147483648/,
  });
  const other = await makeFolder({ 'merges.txt': undefined });
  await mkdir(join(other, 'merges.txt'));
  await assert.rejects(ClipTokenizer.fromFolder(other), { code: 'ERR_CHECKPOINT' });
  if (process.platform === 'win32') return;
  const device = await makeFolder({ 'merges.txt': undefined });
  await symlink('/dev/zero', join(device, 'merges.txt'));
  await assert.rejects(ClipTokenizer.fromFolder(device), { message: /not a file/ });
});
