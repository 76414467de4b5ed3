// Prompt weighting beside the Python package Compel, on tiny random text encoders.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openCheckpointFolder } from '../../lib/checkpoints/folder.js';
import {
  Compel,
  type CompelPrompt,
  memoryStats,
  PromptSyntaxError,
  type Tensor,
  TextEncoder,
} from '../../lib/index.js';
import { Network } from '../../lib/networks/network.js';
import { parseCompel } from '../../lib/prompts/compel-syntax.js';
import type { PromptEncoder } from '../../lib/prompts/row-encoder.js';
import { encodeWeighted } from '../../lib/prompts/weighted-prompts.js';
import { ClipTokenizer } from '../../lib/tokenizer/index.js';
import { ensurePython } from '../../scripts/python.js';
import { seededRandom } from './tokenizer-prompts.js';
import { makeA1111Prompt, makeCompelPrompt, makeSoup } from './weighting-prompts.js';
import { exportCheckpointPrograms, pythonEnvironment } from './workspace.js';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const script = join(here, 'compel_reference.py');
const seed = Number(process.env.TORCHBRUSH_FUZZ_SEED ?? 1);
const promptCount = Number(process.env.TORCHBRUSH_FUZZ_PROMPTS ?? 500);

// What the project promises. Values are about 1, weights up to 4, sums in float32 in another order.
const tolerance = 1e-5;

type Model = 'sd' | 'xl';
interface Case {
  model: Model;
  prompts: string[];
  options: Record<string, unknown>;
}

let python: string;
let work: string;
let encoders: Record<Model, { tokenizer: ClipTokenizer[]; textEncoder: TextEncoder[] }>;

before(async () => {
  python = await ensurePython();
  work = await mkdtemp(join(tmpdir(), 'torchbrush-compel-'));
  await run(python, [script, 'encoders', work], { env: pythonEnvironment });
  await exportCheckpointPrograms(python, [join(work, 'sd'), join(work, 'xl')]);
  encoders = { sd: await loadEncoders('sd'), xl: await loadEncoders('xl') };
});
after(async () => {
  for (const { textEncoder } of Object.values(encoders)) {
    for (const { network } of textEncoder) network.dispose();
  }
  await rm(work, { recursive: true, force: true });
});

async function loadEncoders(model: Model): Promise<(typeof encoders)[Model]> {
  const { components } = await openCheckpointFolder(join(work, model));
  const tokenizer: ClipTokenizer[] = [];
  const textEncoder: TextEncoder[] = [];
  for (const { className, folder } of components.values()) {
    const placement = { dtype: 'float32', device: 'cpu' } as const;
    textEncoder.push(new TextEncoder(await Network.load(folder, className, placement)));
    tokenizer.push(await ClipTokenizer.fromFolder(folder.replace('text_encoder', 'tokenizer')));
  }
  return { tokenizer, textEncoder };
}

/** What a program answers, and the file of the answer. */
async function ask<Answer>(
  program: readonly string[],
  request: unknown,
): Promise<{ answer: Answer; file: string }> {
  const folder = await mkdtemp(join(work, 'run-'));
  const [question, file] = [join(folder, 'request.json'), join(folder, 'answer.json')];
  await writeFile(question, JSON.stringify(request));
  const options = { env: pythonEnvironment, maxBuffer: 2 ** 26 };
  await run(python, [...program, question, file], options);
  return { answer: JSON.parse(await readFile(file, 'utf8')) as Answer, file };
}

/** The numbers beside an answer, cut into tensors. */
async function tensorsOf(file: string, shapes: readonly number[][]): Promise<Float32Array[]> {
  const bytes = await readFile(`${file}.f32`);
  const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let at = 0;
  return shapes.map((shape) => {
    const start = at;
    at += shape.reduce((product, size) => product * size, 1);
    return numbers.subarray(start, at);
  });
}

/** Compel's embeddings for each case, then the pooled ones where there are some. */
async function reference(cases: readonly Case[]): Promise<Float32Array[][]> {
  const request = cases.map(({ model, prompts, options }) => ({
    folder: join(work, model),
    prompts,
    options: Object.fromEntries(Object.entries(options).map(pythonOption)),
  }));
  // Compel is what takes the time, and it takes one processor.
  const middle = Math.ceil(request.length / 2);
  const halves = await Promise.all(
    [request.slice(0, middle), request.slice(middle)].map(async (half) => {
      const { answer, file } = await ask<number[][][]>([script, 'embed'], half);
      const tensors = await tensorsOf(file, answer.flat());
      return answer.map((own) => tensors.splice(0, own.length));
    }),
  );
  return halves.flat();
}

/** `truncateLongPrompts` → `truncate_long_prompts`, `'mask'` → `'MASK'`. */
function pythonOption([name, value]: [string, unknown]): [string, unknown] {
  const snake = (text: string) => text.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return [snake(name), typeof value === 'string' ? snake(value).toUpperCase() : value];
}

/** The largest difference from Compel in a case. */
async function difference(one: Case, expected: readonly Float32Array[]): Promise<number> {
  const { tokenizer, textEncoder } = encoders[one.model];
  const compel = new Compel<boolean[] | false>({ tokenizer, textEncoder, ...one.options });
  const made = await compel.encode(one.prompts);
  const tensors = 'promptEmbeds' in made ? [made.promptEmbeds, made.pooledPromptEmbeds] : [made];
  assert.equal(tensors.length, expected.length);
  let largest = 0;
  for (const [i, tensor] of tensors.entries()) {
    largest = Math.max(largest, await apart(tensor, expected[i] as Float32Array));
    tensor.dispose();
  }
  return largest;
}

/** The largest difference of two tensors. A number that is none is as far away as can be. */
async function apart(tensor: Tensor, expected: Float32Array): Promise<number> {
  const own = await tensor.toFloat32Array();
  if (own.length !== expected.length) return Number.POSITIVE_INFINITY;
  return own.reduce((largest, value, i) => {
    const difference = Math.abs(value - (expected[i] as number));
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(largest, difference);
  }, 0);
}

async function compare(cases: readonly Case[]): Promise<number> {
  const expected = await reference(cases);
  const before = memoryStats();
  let largest = 0;
  for (const [i, one] of cases.entries()) {
    const own = await difference(one, expected[i] as Float32Array[]);
    assert.ok(own <= tolerance, `${own} for ${JSON.stringify(one)}`);
    largest = Math.max(largest, own);
  }
  assert.deepEqual(memoryStats(), before);
  return largest;
}

const xl = {
  returnedEmbeddingsType: 'penultimateHiddenStatesNonNormalized',
  requiresPooled: [false, true],
};

test('embeddings of generated prompts are those of Compel', async (context) => {
  process.removeAllListeners('warning');
  const random = seededRandom(seed);
  const prompts = Array.from({ length: promptCount }, () => makeCompelPrompt(random));
  const cases = prompts.flatMap((prompt, i): Case[] => [
    { model: 'sd', prompts: [prompt], options: { truncateLongPrompts: i % 2 === 0 } },
    { model: 'xl', prompts: [prompt], options: { ...xl, truncateLongPrompts: i % 2 === 1 } },
  ]);
  const largest = await compare(cases);
  context.diagnostic(`${cases.length} cases, at most ${largest.toExponential(1)} apart`);
});

test('every option does what it does in Compel', async () => {
  const random = seededRandom(seed + 1);
  const settings: [Model, Record<string, unknown>][] = [
    ['sd', { downweightMode: 'remove' }],
    ['sd', { paddingAttentionMaskValue: 0 }],
    ['sd', { paddingAttentionMaskValue: 0, truncateLongPrompts: false }],
    ['sd', { returnedEmbeddingsType: 'penultimateHiddenStatesNormalized' }],
    ['sd', { returnedEmbeddingsType: 'penultimateHiddenStatesNonNormalized' }],
    ['xl', { ...xl, downweightMode: 'remove' }],
    ['xl', { truncateLongPrompts: false }],
    ['xl', { requiresPooled: [false, true], truncateLongPrompts: false }],
  ];
  const cases = settings.flatMap(([model, options]): Case[] =>
    // Several prompts are padded to the longest.
    Array.from({ length: 3 }, () => ({
      model,
      options,
      prompts: Array.from({ length: 3 }, () => makeCompelPrompt(random)),
    })),
  );
  await compare(cases);
});

type Read = CompelPrompt | { error: string };

test('what is no syntax is read as Compel reads it', async (context) => {
  const random = seededRandom(seed + 2);
  const prompts = Array.from({ length: 200 }, () => makeSoup(random));
  const { answer: answers } = await ask<Read[]>([script, 'parse'], prompts);
  let refused = 0;
  for (const [i, prompt] of prompts.entries()) {
    const expected = answers[i] as Read;
    try {
      assert.deepEqual(rounded(parseCompel(prompt)), rounded(expected), JSON.stringify(prompt));
    } catch (error) {
      // An operator that Compel takes for text, or a fault that both find.
      if (!(error instanceof PromptSyntaxError)) throw error;
      refused += 1;
    }
  }
  assert.ok(refused < prompts.length / 20, `${refused} refused`);
  context.diagnostic(`${refused} of ${prompts.length} refused`);
});

/** Without what makes no difference: the last bit of a power, and texts without words. */
function rounded(read: Read): unknown {
  if ('error' in read) return read;
  const parts = read.parts.map(({ weight, blend }) => ({
    weight,
    blend: blend.map((one) => ({
      weight: one.weight.toPrecision(12),
      fragments: one.fragments
        .filter(({ text }) => text !== '')
        .map(({ text, weight }) => `${text.trim()} ${weight.toPrecision(12)}`),
    })),
  }));
  const hasText = (one: (typeof parts)[number]) => one.blend.some((b) => b.fragments.length > 0);
  return { parts: parts.filter(hasText), loraWeights: read.loraWeights };
}

test("embeddings of prompts in A1111's syntax are those of our reference", async (context) => {
  const random = seededRandom(seed + 3);
  const prompts = ['', 'a BREAK', 'BREAK a', 'a\\\\b [c (d] e)'];
  prompts.push(...Array.from({ length: 100 }, () => makeA1111Prompt(random)));
  const program = join(here, 'a1111_reference.py');
  const request = { folder: join(work, 'sd'), prompts };
  const { answer: shapes, file } = await ask<number[][]>([program], request);
  const expected = await tensorsOf(file, shapes);
  const before = memoryStats();
  const { tokenizer, textEncoder } = encoders.sd;
  const part = { tokenizer: tokenizer[0], encoder: textEncoder[0] } as PromptEncoder;
  let largest = 0;
  for (const [i, prompt] of prompts.entries()) {
    const outputs = ['last_hidden_state'];
    const made = await encodeWeighted('a1111', [part], { texts: [prompt], outputs }, undefined);
    using embeddings = made.positive.promptEmbeds;
    assert.deepEqual(embeddings.shape, shapes[i], JSON.stringify(prompt));
    const values = expected[i] as Float32Array;
    // The mean is a small difference of large sums, so it scales the rounding up with the values.
    const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    const own = (await apart(embeddings, values)) / scale;
    assert.ok(own <= tolerance, `${own} for ${JSON.stringify(prompt)}`);
    largest = Math.max(largest, own);
  }
  assert.deepEqual(memoryStats(), before);
  context.diagnostic(`${prompts.length} prompts, at most ${largest.toExponential(1)} apart`);
});
