// Weighted prompts with the embedded checkpoint. The numbers are compared with Compel's in
// test/parity/compel.test.ts; here is what is around them.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';

import {
  Compel,
  configure,
  memoryStats,
  StableDiffusionPipeline,
  Tensor,
  type TextToImageOptions,
} from '../lib/index.js';
import { rowsOf } from '../lib/prompts/a1111-embedding.js';
import { RowMaker } from '../lib/prompts/row-encoder.js';
import { demoModel } from './helpers.js';
import { assertRefused } from './refusal.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

let pipe: StableDiffusionPipeline;
before(async () => {
  pipe = await StableDiffusionPipeline.fromPretrained(demoModel, {
    dtype: 'float32',
    device: 'cpu',
  });
});
after(() => pipe.dispose());

async function numbers(tensor: Tensor): Promise<Float32Array> {
  using own = tensor;
  return await own.toFloat32Array();
}

test('a prompt without weights has the embeddings of the text encoder', async () => {
  const { tokenizer, textEncoder } = pipe.components;
  const compel = new Compel({ tokenizer, textEncoder });
  const { inputIds } = tokenizer.encode(['a red circle'], { maxLength: 24 });
  const plain = await numbers(await textEncoder.encode(inputIds));
  assert.deepEqual(await numbers(await compel.encode('a red circle')), plain);
  assert.notDeepEqual(await numbers(await compel.encode('a red+ circle')), plain);
});

test('an option of Compel that is undefined counts as not given', async () => {
  const options = { truncateLongPrompts: undefined, downweightMode: undefined };
  const plain = await numbers(await Compel.fromPipe(pipe).encode('a red- circle'));
  assert.deepEqual(
    await numbers(await Compel.fromPipe(pipe, options).encode('a red- circle')),
    plain,
  );
});

test('at weight 0 nothing is left of a word for those behind it, at 0.5 half', async () => {
  const compel = Compel.fromPipe(pipe);
  // The third word behind the begin token, "circle".
  const [red, none, other, half] = await Promise.all(
    ['a red circle', 'a (red)0 circle', 'a (blue)0 circle', 'a (red)0.5 circle'].map(
      async (prompt) => (await numbers(await compel.encode(prompt))).slice(3 * 128, 4 * 128),
    ),
  );
  // Weight 0 counts as 1e-5.
  assert.ok(apart(none, other) < 1e-3);
  assert.ok(apart(red, none) > 1);
  assert.ok(Math.abs(apart(red, half) - apart(red, none) / 2) < 1e-3);
});

function apart(a = new Float32Array(1), b = new Float32Array()): number {
  assert.equal(a.length, b.length);
  return Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))));
}

test('long prompts and and() take more rows, padded to the same length', async () => {
  const before = memoryStats();
  const compel = Compel.fromPipe(pipe, { truncateLongPrompts: false });
  const long = 'a red circle and a blue square '.repeat(8);
  using longest = await compel.encode(long);
  using two = await compel.encode('("a circle", "a square").and()');
  using list = await compel.encode(['a circle', '("a circle", "a square").and(1, 0.5)']);
  assert.deepEqual(two.shape, [1, 48, 128]);
  assert.deepEqual(list.shape, [2, 48, 128]);
  assert.ok((longest.shape[1] as number) > 48 && (longest.shape[1] as number) % 24 === 0);
  const padded = await compel.padToSameLength([two, longest]);
  assert.deepEqual(padded[0]?.shape, longest.shape);
  assert.deepEqual(padded[1]?.shape, longest.shape);
  for (const tensor of [...padded, longest, two, list]) tensor.dispose();
  assert.deepEqual(memoryStats(), before);
});

test('Compel refuses what cannot be meant', async () => {
  const { tokenizer, textEncoder } = pipe.components;
  const parts = { tokenizer, textEncoder };
  const refuse = (options: object, says: RegExp) =>
    assert.throws(() => new Compel({ ...parts, ...options } as never), {
      code: 'ERR_INVALID_ARGUMENT',
      message: says,
    });
  refuse({ truncate_long_prompts: true }, /It is called truncateLongPrompts here/);
  refuse({ truncateLongPrompts: 1 }, /true or false for truncateLongPrompts/);
  refuse({ paddingAttentionMaskValue: 2 }, /0 or 1 for paddingAttentionMaskValue/);
  refuse({ downweightMode: 'MASK' }, /'mask', 'remove' for downweightMode/);
  refuse({ returnedEmbeddingsType: 'last' }, /'lastHiddenStatesNormalized'/);
  refuse({ requiresPooled: 'yes' }, /true or false for requiresPooled/);
  refuse({ requiresPooled: true }, /encoders with a projection for requiresPooled/);
  refuse({ tokenizer: [tokenizer, tokenizer] }, /1, one for each text encoder, for tokenizer/);
  refuse({ textEncoder: {} }, /a TextEncoder for textEncoder/);
  refuse({ tokenizer: 'clip' }, /a ClipTokenizer for tokenizer/);
  const compel = Compel.fromPipe(pipe);
  const cases: [() => Promise<unknown>, RegExp][] = [
    [() => compel.encode(7 as never), /a string or an array of strings for prompt/],
    [() => compel.encode([]), /for prompt/],
    [() => compel.padToSameLength([]), /an array of tensors/],
  ];
  for (const [run, says] of cases) await assertRefused(run, { says });
  await assertRefused(() => compel.encode('("a","b").blend(1)'), {
    code: 'ERR_PROMPT_SYNTAX',
    says: /2 weights/,
  });
  using odd = Tensor.fromArray(new Float32Array(2 * 30 * 128), [2, 30, 128]);
  await assert.rejects(compel.padToSameLength([odd]), /\[B, n·24, 128\] for embeddings/);
});

const options = (more: TextToImageOptions) => ({
  numInferenceSteps: 2,
  seed: 7,
  ...more,
  outputType: 'tensor' as const,
});

async function picture(more: TextToImageOptions): Promise<Float32Array> {
  const { images } = await pipe.generate(options(more));
  return numbers(images);
}

test('generate() reads prompts in either syntax', async () => {
  const before = memoryStats();
  const plain = await picture({ prompt: 'a red circle', negativePrompt: 'blue' });
  for (const weighting of ['compel', 'a1111'] as const) {
    const same = { prompt: 'a red circle', negativePrompt: 'blue', weighting };
    assert.deepEqual(await picture(same), plain);
    assert.notDeepEqual(await picture({ ...same, prompt: 'a (red)1.5 circle' }), plain);
  }
  const compel = Compel.fromPipe(pipe);
  const prompt = '("a (red)1.3 circle", "a square-").and(1, 0.7)';
  const embeddings = await Promise.all([compel.encode(prompt), compel.encode('blue')]);
  const [promptEmbeds, negativePromptEmbeds] = await compel.padToSameLength(embeddings);
  const made = { promptEmbeds, negativePromptEmbeds } as TextToImageOptions;
  const weighted = await picture({ prompt, negativePrompt: 'blue', weighting: 'compel' });
  assert.deepEqual(await picture(made), weighted);
  for (const tensor of [...embeddings, promptEmbeds, negativePromptEmbeds]) tensor?.dispose();
  const batch = { prompt: ['a (red) circle', 'x BREAK y'], weighting: 'a1111' } as const;
  assert.equal((await picture({ ...batch, numImagesPerPrompt: 2 })).length, plain.length * 4);
  assert.deepEqual(memoryStats(), before);
});

test('a weighting that does not fit is refused before anything runs', async () => {
  using promptEmbeds = Tensor.fromArray(new Float32Array(24 * 128), [1, 24, 128]);
  const refuse = (more: object, says: RegExp, code?: string) =>
    assertRefused(() => pipe.generate(options(more)), { says, ...(code && { code }) });
  await refuse({ prompt: 'a', weighting: 'sd' }, /'compel', 'a1111' for weighting/);
  await refuse({ promptEmbeds, weighting: 'compel' }, /one of weighting and promptEmbeds/);
  const wrong = { prompt: 'a', negativePrompt: '(b:1.2.3)', weighting: 'a1111' };
  await refuse(wrong, /a weight at position 3/, 'ERR_PROMPT_SYNTAX');
});

test('text that is cut off is warned of', async () => {
  const warn = mock.method(process, 'emitWarning', () => {});
  using cut = await Compel.fromPipe(pipe).encode(`${'red '.repeat(30)}(blue)0.5`);
  assert.deepEqual(cut.shape, [1, 24, 128]);
  const said = JSON.stringify(warn.mock.calls[0]?.arguments);
  assert.match(said, /cut off: .*blue.*TORCHBRUSH_PROMPT_TRUNCATED/);
  warn.mock.restore();
});

test("A1111's rows break at BREAK and after a comma that is near", () => {
  const maker = new RowMaker({
    tokenizer: pipe.components.tokenizer,
    encoder: pipe.components.textEncoder,
  });
  const lengths = (...texts: string[]) =>
    rowsOf(
      maker,
      texts.map((text) => [{ text, weight: 1 }]),
    ).map(({ ids }) => ids.indexOf(maker.tokenizer.eosTokenId, 1) - 1);
  const red = (count: number) => 'red '.repeat(count);
  assert.equal(maker.tokenizer.tokenize(red(5)).length, 5);
  assert.equal(maker.room, 22);
  assert.deepEqual(lengths(''), [0]);
  assert.deepEqual(lengths(red(22)), [22]);
  assert.deepEqual(lengths(red(23)), [22, 1]);
  // After the comma 20 tokens fit; a comma one token earlier is out of reach.
  assert.deepEqual(lengths(`red red, ${red(20)}`), [3, 20]);
  assert.deepEqual(lengths(`red, ${red(21)}`), [22, 1]);
  assert.deepEqual(lengths(`${red(22)}, red`), [22, 2]);
  assert.deepEqual(lengths('red', 'red red'), [1, 2]);
  assert.deepEqual(lengths('', 'red'), [0, 1]);
  assert.deepEqual(lengths('red', ''), [1]);
});
