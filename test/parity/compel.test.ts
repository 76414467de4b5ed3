// Prompt weighting beside the Python package Compel, on tiny random text encoders.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
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
import { distance } from '../drawing.js';
import { seededRandom } from './tokenizer-prompts.js';
import { makeA1111Prompt, makeCompelPrompt, makeSoup } from './weighting-prompts.js';
import { exportCheckpointPrograms, pythonEnvironment } from './workspace.js';

const script = join(dirname(fileURLToPath(import.meta.url)), 'compel_reference.py');
const seed = Number(process.env.TORCHBRUSH_FUZZ_SEED ?? 1);
const promptCount = Number(process.env.TORCHBRUSH_FUZZ_PROMPTS ?? 500);

// What the project promises.
const tolerance = 1e-5;
// These random encoders are ill-conditioned in places: Compel itself, in float32, is up to 2e-5 from the
// same encoders in float64. A case that is not within the tolerance of Compel must be as near to that.
const mostOfCompel = 5e-5;

type Model = 'sd' | 'xl';
interface Expected {
  shape: number[];
  values: Float32Array;
}
interface Case {
  model: Model;
  prompts: string[];
  options: Record<string, unknown>;
}

const xl = {
  returnedEmbeddingsType: 'penultimateHiddenStatesNonNormalized',
  requiresPooled: [false, true],
};

const soup = generated(2, 200, makeSoup);
const a1111 = ['', 'a BREAK', 'BREAK a', 'a\\\\b [c (d] e)', ...generated(3, 100, makeA1111Prompt)];
const optionCases = casesOfOptions();
const promptCases = generated(0, promptCount, makeCompelPrompt).flatMap((prompt, i): Case[] => [
  { model: 'sd', prompts: [prompt], options: { truncateLongPrompts: i % 2 === 0 } },
  { model: 'xl', prompts: [prompt], options: { ...xl, truncateLongPrompts: i % 2 === 1 } },
]);
const [firstCases, lastCases] = [promptCases.slice(0, promptCount), promptCases.slice(promptCount)];

let work: string;
let reference: Reference;
let encoders: Record<Model, { tokenizer: ClipTokenizer[]; textEncoder: TextEncoder[] }>;

before(async () => {
  const python = await ensurePython();
  work = await mkdtemp(join(tmpdir(), 'torchbrush-compel-'));
  reference = await Reference.start(python, {
    soup: { parse: soup },
    a1111: { a1111 },
    options: { embed: optionCases.map(questionOf) },
    // In two parts, so that one is compared while Compel makes the other.
    first: { embed: firstCases.map(questionOf) },
    last: { embed: lastCases.map(questionOf) },
  });
  await reference.finished('encoders');
  await exportCheckpointPrograms(python, [join(work, 'sd'), join(work, 'xl')]);
  encoders = { sd: await loadEncoders('sd'), xl: await loadEncoders('xl') };
});
after(async () => {
  reference.stop();
  for (const { textEncoder } of Object.values(encoders)) {
    for (const { network } of textEncoder) network.dispose();
  }
  await rm(work, { recursive: true, force: true });
});

function generated(offset: number, count: number, make: (random: () => number) => string) {
  const random = seededRandom(seed + offset);
  return Array.from({ length: count }, () => make(random));
}

/** Each option by itself, with prompts of different lengths: they are padded to the longest. */
function casesOfOptions(): Case[] {
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
  const prompts = generated(1, settings.length * 4, makeCompelPrompt);
  return settings.flatMap(([model, options], i) =>
    [0, 2].map((k) => ({ model, options, prompts: prompts.slice(4 * i + k, 4 * i + k + 2) })),
  );
}

/** One Python process for all questions; it answers them in order while earlier ones are compared. */
class Reference {
  readonly #child: ChildProcess;
  readonly #said = new Set<string>();
  #errors = '';

  static async start(python: string, sections: Record<string, unknown>): Promise<Reference> {
    await writeFile(join(work, 'request.json'), JSON.stringify(sections));
    return new Reference(python);
  }

  private constructor(python: string) {
    const child = spawn(python, [script, work], {
      env: pythonEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stderr.on('data', (text) => {
      this.#errors += text;
    });
    createInterface({ input: child.stdout }).on('line', (name) => this.#said.add(name));
    this.#child = child;
  }

  /** Waits until Python has said a section's name. */
  async finished(name: string): Promise<void> {
    while (!this.#said.has(name)) {
      if (this.#child.exitCode !== null) throw new Error(`Python stopped:\n${this.#errors}`);
      await sleep(20);
    }
  }

  async answer<Answer>(name: string): Promise<Answer[]> {
    await this.finished(name);
    return JSON.parse(await readFile(join(work, `${name}.json`), 'utf8')) as Answer[];
  }

  /** The tensors of each case. */
  async tensors(name: string, kind: '' | '.exact' = ''): Promise<Expected[][]> {
    const shapes = await this.answer<number[][]>(name);
    const bytes = await readFile(join(work, `${name}${kind}.f32`));
    const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    let at = 0;
    return shapes.map((own) =>
      own.map((shape) => {
        const start = at;
        at += shape.reduce((product, size) => product * size, 1);
        return { shape, values: numbers.subarray(start, at) };
      }),
    );
  }

  stop(): void {
    this.#child.kill();
  }
}

/** A case with its options as Python writes them. */
function questionOf({ options, ...one }: Case) {
  return { ...one, options: Object.fromEntries(Object.entries(options).map(pythonOption)) };
}

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

/** `truncateLongPrompts` → `truncate_long_prompts`, `'mask'` → `'MASK'`. */
function pythonOption([name, value]: [string, unknown]): [string, unknown] {
  const snake = (text: string) => text.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return [snake(name), typeof value === 'string' ? snake(value).toUpperCase() : value];
}

/** The largest difference from what is expected in a case. */
async function difference(one: Case, expected: readonly Expected[]): Promise<number> {
  const { tokenizer, textEncoder } = encoders[one.model];
  const compel = new Compel<boolean[] | false>({ tokenizer, textEncoder, ...one.options });
  const made = await compel.encode(one.prompts);
  const tensors = 'promptEmbeds' in made ? [made.promptEmbeds, made.pooledPromptEmbeds] : [made];
  assert.equal(tensors.length, expected.length);
  let largest = 0;
  for (const [i, tensor] of tensors.entries()) {
    largest = Math.max(largest, await apart(tensor, expected[i] as Expected));
    tensor.dispose();
  }
  return largest;
}

/** The largest difference of two tensors. A number that is none is as far away as can be. */
async function apart(tensor: Tensor, { shape, values }: Expected): Promise<number> {
  assert.deepEqual(tensor.shape, shape);
  const own = await tensor.toFloat32Array();
  return own.reduce((largest, value, i) => {
    const difference = Math.abs(value - (values[i] as number));
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(largest, difference);
  }, 0);
}

async function compare(cases: readonly Case[], name: string): Promise<number> {
  const expected = await reference.tensors(name);
  const exact = await reference.tensors(name, '.exact');
  assert.equal(expected.length, cases.length);
  const exactValues = exact.flat();
  const ofCompel = expected
    .flat()
    .reduce(
      (most, { values }, i) => Math.max(most, distance(values, exactValues[i]?.values ?? [])),
      0,
    );
  assert.ok(ofCompel <= mostOfCompel, `Compel is ${ofCompel} from exact`);
  const before = memoryStats();
  let largest = 0;
  for (const [i, one] of cases.entries()) {
    const own = await difference(one, expected[i] as Expected[]);
    if (own > tolerance) {
      const fromExact = await difference(one, exact[i] as Expected[]);
      assert.ok(
        fromExact <= ofCompel,
        `${own}, ${fromExact} from exact for ${JSON.stringify(one)}`,
      );
    }
    largest = Math.max(largest, own);
  }
  assert.deepEqual(memoryStats(), before);
  return largest;
}

type Read = CompelPrompt | { error: string };

test('what is no syntax is read as Compel reads it', async (context) => {
  const answers = await reference.answer<Read>('soup');
  let refused = 0;
  for (const [i, prompt] of soup.entries()) {
    const expected = answers[i] as Read;
    try {
      assert.deepEqual(rounded(parseCompel(prompt)), rounded(expected), JSON.stringify(prompt));
    } catch (error) {
      // An operator that Compel takes for text, or a fault that both find.
      if (!(error instanceof PromptSyntaxError)) throw error;
      refused += 1;
    }
  }
  assert.ok(refused < soup.length / 20, `${refused} refused`);
  context.diagnostic(`${refused} of ${soup.length} refused`);
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
  const tensors = await reference.tensors('a1111');
  const before = memoryStats();
  const { tokenizer, textEncoder } = encoders.sd;
  const part = { tokenizer: tokenizer[0], encoder: textEncoder[0] } as PromptEncoder;
  let largest = 0;
  for (const [i, prompt] of a1111.entries()) {
    const outputs = ['last_hidden_state'];
    const made = await encodeWeighted('a1111', [part], { texts: [prompt], outputs }, undefined);
    using embeddings = made.positive.promptEmbeds;
    const [expected] = tensors[i] as [Expected];
    // The mean is a small difference of large sums, so it scales the rounding up with the values.
    const scale = expected.values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    const own = (await apart(embeddings, expected)) / scale;
    assert.ok(own <= tolerance, `${own} for ${JSON.stringify(prompt)}`);
    largest = Math.max(largest, own);
  }
  assert.deepEqual(memoryStats(), before);
  context.diagnostic(`${a1111.length} prompts, at most ${largest.toExponential(1)} apart`);
});

test('every option does what it does in Compel', async () => {
  await compare(optionCases, 'options');
});

test('embeddings of generated prompts are those of Compel', async (context) => {
  process.removeAllListeners('warning');
  const largest = Math.max(await compare(firstCases, 'first'), await compare(lastCases, 'last'));
  context.diagnostic(`${promptCases.length} cases, at most ${largest.toExponential(1)} apart`);
});
