import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ClipTokenizer } from '../../lib/tokenizer/index.js';
import { ensurePython } from '../../scripts/python.js';
import { makePrompt, seededRandom } from './tokenizer-prompts.js';

const here = dirname(fileURLToPath(import.meta.url));
const run = promisify(execFile);
const promptCount = Number(process.env.TORCHBRUSH_FUZZ_PROMPTS ?? 10_000);
const seed = Number(process.env.TORCHBRUSH_FUZZ_SEED ?? 1);

interface Request {
  folder: string;
  prompts: string[];
  blocks: [number, number][];
}
interface Answer {
  special: number[];
  size: number;
  modelMaxLength: number;
  ids: number[][];
  decoded: string[];
  decodedWithoutSpecial: string[];
  inputIds: number[][] | null;
  attentionMask: number[][] | null;
  digests: string[];
}

let python: string;
let work: string;
let clip: string;

before(async () => {
  python = await ensurePython();
  work = await mkdtemp(join(tmpdir(), 'torchbrush-tokenizer-'));
  clip = join(work, 'clip');
  const cache = join(here, '..', '..', '.cache', 'wheels');
  await mkdir(cache, { recursive: true });
  await run(python, [join(here, 'tokenizer.py'), 'vocabulary', clip, '--cache', cache]);
});
after(() => rm(work, { recursive: true, force: true }));

async function ask(requests: Request[]): Promise<Answer[]> {
  const [question, answer] = [join(work, 'request.json'), join(work, 'answer.json')];
  await writeFile(question, JSON.stringify(requests));
  await run(python, [join(here, 'tokenizer.py'), 'ask', question, answer], {
    env: { ...process.env, TOKENIZERS_PARALLELISM: 'false', HF_HUB_OFFLINE: '1' },
    maxBuffer: 2 ** 26,
  });
  return JSON.parse(await readFile(answer, 'utf8')) as Answer[];
}

/** A copy of the CLIP vocabulary with the given small files beside it. */
async function makeFolder(name: string, files: Record<string, unknown>): Promise<string> {
  const folder = join(work, name);
  await cp(clip, folder, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    await writeFile(join(folder, file), JSON.stringify(content));
  }
  return folder;
}

/** The one-file form, with nothing in it that CLIP's tokenizer class does not look at. */
async function writeTokenizerJson(
  folder: string,
  options: { added: object[]; direction: string; pairs: boolean },
): Promise<void> {
  const { added, direction, pairs } = options;
  const vocab: unknown = JSON.parse(await readFile(join(folder, 'vocab.json'), 'utf8'));
  const lines = (await readFile(join(folder, 'merges.txt'), 'utf8')).trim().split('\n').slice(1);
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const truncation = { direction, max_length: 77, strategy: 'LongestFirst', stride: 0 };
  const merges = pairs ? lines.map((line) => line.split(' ')) : lines;
  const model = { type: 'BPE', vocab, merges };
  const content = {
    version: '1.0',
    truncation,
    padding: null,
    added_tokens: added,
    ...parts,
    model,
  };
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(content));
}

async function compare(requests: Request[]): Promise<void> {
  const answers = await ask(requests);
  for (const [i, { folder, prompts, blocks }] of requests.entries()) {
    const expected = answers[i] as Answer;
    const tokenizer = await ClipTokenizer.fromFolder(folder);
    const { padTokenId, bosTokenId, eosTokenId, unkTokenId } = tokenizer;
    assert.deepEqual([padTokenId, bosTokenId, eosTokenId, unkTokenId], expected.special);
    assert.equal(tokenizer.size, expected.size);
    const different: unknown[] = [];
    for (const [n, prompt] of prompts.entries()) {
      const ids = tokenizer.tokenize(prompt);
      const row = tokenizer.encode([prompt], expected.inputIds === null ? { padding: 'none' } : {});
      const same =
        equal(ids, expected.ids[n]) &&
        tokenizer.decode(ids) === expected.decoded[n] &&
        tokenizer.decode(ids, { skipSpecialTokens: true }) === expected.decodedWithoutSpecial[n] &&
        (expected.inputIds === null || equal(row.inputIds[0], expected.inputIds[n])) &&
        (expected.attentionMask === null || equal(row.attentionMask[0], expected.attentionMask[n]));
      if (!same)
        different.push({ folder, prompt, ids: String(ids), expected: String(expected.ids[n]) });
    }
    assert.deepEqual(different.slice(0, 5), [], `${different.length} of ${prompts.length} differ`);
    const digests = blocks.map(([first, last]) => digest(tokenizer, first, last));
    const wrong = blocks.filter((_, n) => digests[n] !== expected.digests[n]);
    assert.deepEqual(wrong, []);
  }
}

function equal(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  return a?.length === b?.length && a?.every((value, i) => value === b?.[i]) === true;
}

/** The same prompts as in tokenizer.py. */
function digest(tokenizer: ClipTokenizer, first: number, last: number): string {
  const rows: string[] = [];
  for (let c = first; c <= last; c++) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const x = String.fromCodePoint(c);
    rows.push(tokenizer.tokenize(`a${x}b1${x}2!${x}.${x} ${x}e\u0323${x}\u0301`).join(','));
  }
  return createHash('sha256').update(rows.join('\n')).digest('hex').slice(0, 16);
}

function prompts(amount: number, from: number): string[] {
  const random = seededRandom(from);
  return Array.from({ length: amount }, () => makePrompt(random));
}

const flags = (content: string, more = {}) => ({
  content,
  lstrip: false,
  normalized: true,
  rstrip: false,
  single_word: false,
  ...more,
});
const typed = (content: string) => ({ __type: 'AddedToken', ...flags(content) });
const named = (make: (content: string) => unknown, pad: unknown) => ({
  bos_token: make('<|startoftext|>'),
  eos_token: make('<|endoftext|>'),
  unk_token: make('<|endoftext|>'),
  pad_token: pad,
});

test('token ids of generated prompts are those of transformers with the full CLIP vocabulary', async () => {
  const first = await makeFolder('old-shape', {
    'tokenizer_config.json': { ...named(typed, '<|endoftext|>'), model_max_length: 77 },
    'special_tokens_map.json': named(flags, '<|endoftext|>'),
  });
  const exclamation = await makeFolder('exclamation-pads', {
    'tokenizer_config.json': { ...named(typed, '<|endoftext|>'), model_max_length: 77 },
    'special_tokens_map.json': named(flags, '!'),
  });
  await compare([
    { folder: first, prompts: prompts(promptCount, seed), blocks: [] },
    { folder: exclamation, prompts: prompts(Math.ceil(promptCount / 5), seed + 1), blocks: [] },
  ]);
});

test('every code point is classed, lowered and composed as in transformers', async () => {
  const folder = await makeFolder('bare', {});
  const all = process.env.TORCHBRUSH_FUZZ_ALL === '1';
  const blocks: [number, number][] = [];
  for (let c = 0; c < 0x110000; c += 256) {
    // Large uniform areas are visited here and there unless everything is asked for.
    const uniform = (c >= 0x3400 && c < 0xa000) || (c >= 0xac00 && c < 0xf900) || c >= 0x20000;
    if (all || !uniform || c % 0x1f00 === 0) blocks.push([c, c + 255]);
  }
  await compare([{ folder, prompts: [], blocks }]);
});

test('folders of every shape give the tokens that transformers gives', async () => {
  const random = seededRandom(seed + 2);
  const chance = (p: number) => random() < p;
  const extra = () =>
    flags(
      ['<cat-toy>', '<UPPER>', '[left]', ' [right] ', '<cat', 'mars', '!!'][
        Math.floor(random() * 7)
      ] as string,
      {
        lstrip: chance(0.3),
        rstrip: chance(0.3),
        single_word: chance(0.3),
        normalized: chance(0.5),
      },
    );
  const requests: Request[] = [];
  for (let i = 0; i < 60; i++) {
    const pad = ['<|endoftext|>', '!', '<pad>', flags('<|endoftext|>', { normalized: false })][
      Math.floor(random() * 4)
    ];
    const files: Record<string, unknown> = {};
    const config: Record<string, unknown> = chance(0.5)
      ? named(chance(0.5) ? typed : (content) => content, typeof pad === 'string' ? pad : '!')
      : {};
    if (chance(0.7)) config.model_max_length = chance(0.8) ? 77 : 20;
    if (chance(0.1)) config.padding_side = 'left';
    if (chance(0.1)) config.truncation_side = 'left';
    if (chance(0.1)) config.split_special_tokens = true;
    if (chance(0.2)) config.additional_special_tokens = ['<cat-toy>', '[left]'];
    if (chance(0.1)) config.extra_special_tokens = chance(0.5) ? ['mars'] : [];
    if (chance(0.1)) config.image_token = '<image>';
    if (chance(0.1)) config.mask_token = '[left]';
    if (chance(0.3)) {
      config.added_tokens_decoder = {
        49406: flags('<|startoftext|>', { special: true }),
        49407: flags('<|endoftext|>', { special: true }),
        ...(chance(0.5) ? { 0: flags('!', { special: true, normalized: false }) } : {}),
        ...(chance(0.5) ? { 49408: { ...extra(), special: chance(0.5) } } : {}),
        ...(chance(0.5) ? { 49409: { ...extra(), special: chance(0.5) } } : {}),
      };
    }
    files['tokenizer_config.json'] = config;
    if (chance(0.6)) {
      files['special_tokens_map.json'] = {
        ...named(chance(0.7) ? flags : (content) => content, pad),
        ...(chance(0.2) ? { additional_special_tokens: ['<cat-toy>', 'mars'] } : {}),
        ...(chance(0.1) ? { extra_special_tokens: ['[left]'] } : {}),
      };
    }
    if (chance(0.3)) files['added_tokens.json'] = { '<cat-toy>': 49408, '<UPPER>': 49409 };
    const folder = await makeFolder(`shape-${i}`, files);
    if (chance(0.3)) {
      const added = [{ id: 49406, ...flags('<|startoftext|>', { special: true }) }];
      if (chance(0.5)) added.push({ id: 49408, ...extra() });
      const direction = chance(0.5) ? 'Left' : 'Right';
      await writeTokenizerJson(folder, { added, direction, pairs: chance(0.5) });
      if (chance(0.5)) await rm(join(folder, 'vocab.json'));
    }
    requests.push({ folder, prompts: prompts(60, seed + 100 + i), blocks: [] });
  }
  await compare(requests);
});
