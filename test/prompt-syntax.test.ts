// Prompts with weights, read. What Compel 2.0 reads in random ones is compared live in
// test/parity/compel.test.ts; the readings here are Compel's too.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Compel, PromptSyntaxError } from '../lib/index.js';
import { parseA1111 } from '../lib/prompts/a1111-syntax.js';
import type { WeightedText } from '../lib/prompts/weighted-text.js';

/** `a|cat:1.3|dog`: texts of weight 1 as they are, others with theirs. */
function shown(texts: readonly WeightedText[]): string {
  return texts
    .map(({ text, weight }) => (weight === 1 ? text : `${text}:${Number(weight.toFixed(6))}`))
    .join('|');
}

function read(prompt: string): string {
  const { parts } = Compel.parsePromptString(prompt);
  assert.equal(parts.length, 1, prompt);
  assert.equal(parts[0]?.blend.length, 1, prompt);
  return shown(parts[0].blend[0]?.fragments ?? []);
}

const readings = (cases: Readonly<Record<string, string>>) => {
  for (const [prompt, wanted] of Object.entries(cases)) assert.equal(read(prompt), wanted, prompt);
};

test('signs and numbers behind words, parentheses and quotation marks are weights', () => {
  readings({
    'a cat': 'a cat',
    'cat++ dog-': 'cat:1.21|dog:0.9',
    'a (big cat)1.3 here': 'a|big cat:1.3|here',
    '"big cat"-- (x).5': 'big cat:0.81|x:0.5',
    '(a)2cats': 'a:2|cats',
    'blue sphere.attend(2) (x).attend(--)': 'blue|sphere:2|x:0.81',
    '(a (b)1.3)1.1': 'a:1.1|b:1.43',
    '((((a))))++': 'a:1.21',
    '(a -b)+': 'a -b:1.1',
  });
});

test('what only looks like syntax is text', () => {
  readings({
    'a well-known 3.5 word1.3': 'a well-known 3.5 word1.3',
    'a (cat': 'a (cat',
    'cat) and :) and (': 'cat) and :) and (',
    'a (x + y) b': 'a (x + y) b',
    '(cat:1.2)': 'cat:1 . 2',
    'x="y" - "open': 'x="y" - "open',
    '(a)-0.5': 'a:0.9|0.5',
    'cat++dog': 'cat:1.21|dog',
    '(a) .foo(1)': 'a .foo(1)',
    'fish.and(chips)': 'fish.and(chips)',
  });
});

test('a backslash makes parentheses and quotation marks text', () => {
  readings({
    'a \\(b\\) c': 'a (b) c',
    '(a \\(b\\))1.2': 'a (b):1.2',
    '"say \\"hi\\""+': 'say "hi":1.1',
    'cat\\+': 'cat\\+',
  });
});

test('space, line ends, commas and other alphabets keep words apart as in Compel', () => {
  readings({
    '  a\tcat\r\n on  it ': 'a cat on it',
    'a,b,,c': 'a, b, ,c',
    '(a,b.c)+': 'a , b . c:1.1',
    '(日本 café)1.2 😀+': '日本 café:1.2|😀:1.1',
    'a\u00a0b+': 'a\u00a0b:1.1',
    '"a\nb"+': '"a b"+',
  });
});

test('a prompt may have no words', () => {
  for (const prompt of ['', ' \n', '()', '( )0.5', '""', 'withLora(style)']) {
    assert.equal(read(prompt), '', prompt);
  }
});

test('and() keeps prompts apart, blend() shares out their weights', () => {
  const whole = (prompt: string) =>
    Compel.parsePromptString(prompt).parts.map(({ weight, blend }) => [
      weight,
      ...blend.map((one) => `${Number(one.weight.toFixed(6))} ${shown(one.fragments)}`),
    ]);
  assert.deepEqual(whole('("a b", c, (d)).and(1, 0.5, -2)'), [
    [1, '1 a b'],
    [0.5, '1 c'],
    [-2, '1 d'],
  ]);
  assert.deepEqual(whole('("a","b+ c").add()'), [
    [1, '1 a'],
    [1, '1 b:1.1|c'],
  ]);
  assert.deepEqual(whole('("a","b").blend(1,3)'), [[1, '0.25 a', '0.75 b']]);
  assert.deepEqual(whole('("a","b").blend()'), [[1, '0.5 a', '0.5 b']]);
  assert.deepEqual(whole('("a", "b") .blend(1, 3, no_normalize)'), [[1, '1 a', '3 b']]);
  assert.deepEqual(whole('("(open", "=").and()'), [
    [1, '1 (open'],
    [1, '1 ='],
  ]);
});

test('swap() leaves the original words, apart from their neighbours', () => {
  readings({
    'a cat.swap(big dog, s_start=0.3, t_end=1) here': 'a|cat|here',
    'a ("big cat").swap() here': 'a|big cat|here',
    '(cat.swap(dog))1.2': 'cat:1.2',
  });
});

test('LoRA weights are collected', () => {
  const { loraWeights } = Compel.parsePromptString(
    'withLora(one,0.8) a (cat useLora(two-2))+ withLora( three , -1 )',
  );
  assert.deepEqual(loraWeights, [
    { name: 'one', weight: 0.8 },
    { name: 'two-2', weight: 1 },
    { name: 'three', weight: -1 },
  ]);
  const blend = Compel.parsePromptString('withLora(a) ("x","y").blend(1,1) useLora(b, 0.5)');
  assert.deepEqual(blend.loraWeights, [
    { name: 'a', weight: 1 },
    { name: 'b', weight: 0.5 },
  ]);
});

function refused(parse: () => unknown, position: number, message: RegExp): void {
  assert.throws(parse, (error) => {
    assert.ok(error instanceof PromptSyntaxError);
    assert.equal(error.code, 'ERR_PROMPT_SYNTAX');
    assert.match(error.message, message);
    assert.equal(error.position, position, error.message);
    return true;
  });
}

test('operators that cannot be meant as written are refused, with their position', () => {
  const cases: [string, number, RegExp][] = [
    ['("a","b").blend(1)', 9, /2 weights, one for each prompt.*There are 1/],
    ['("a","b").and(1,2,3)', 9, /2 weights.*There are 3/],
    ['("a","b").and(1,x)', 16, /a number .*found "x\)"/],
    ['("a","b").and(no_normalize)', 14, /a number/],
    ['("a","b").blend(1,1', 19, /'\)' .* found its end/],
    ['("a","b").blend(1,1) extra', 21, /the end .* found "extra"/],
    ['("a","b").and() extra', 16, /the end/],
    ['("a"+,"b").and()', 4, /prompts in quotation marks.*Weights belong inside/],
    ['(a cat, "b").and()', 3, /prompts in quotation marks/],
    ['().and()', 1, /prompts in quotation marks/],
    ['("a","b").blend(1,-1)', 9, /do not add up to 0.*no_normalize/],
    ['("a cat.swap(dog)","b").blend()', 7, /no \.swap\(\) in a \.blend\(\)/],
    ['x ("a","b").blend(1,1)', 11, /no operator \.blend\(\).*It takes a whole prompt/],
    ['(a,b)+,(c).fade(2)', 10, /no operator \.fade\(\).*Known are \.and/],
    ['(a).attend(x)', 11, /a weight .*\(a cat\)\.attend\(1\.2\)/],
    ['(a).attend(1.2', 14, /'\)'/],
    ['(a).swap(b +)', 11, /'\)'/],
    ['withLora(my.lora)', 11, /'\)' .*withLora\(name, 0\.8\)/],
    ['withLora()', 9, /the name of a LoRA/],
    ['withLora(a,b)', 11, /a number/],
    [`(a)${'9'.repeat(400)}`, 3, /a smaller number/],
  ];
  for (const [prompt, position, message] of cases) {
    refused(() => Compel.parsePromptString(prompt), position, message);
  }
  assert.throws(() => Compel.parsePromptString(7 as never), { code: 'ERR_INVALID_ARGUMENT' });
  assert.throws(() => Compel.parsePromptString(`a${'+'.repeat(9999)}`), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /nested weights/,
  });
});

test('hostile prompts neither exhaust the stack nor take long', () => {
  const deep = /parentheses at most 100 deep/;
  refused(() => Compel.parsePromptString('('.repeat(100_000)), 100, deep);
  refused(() => Compel.parsePromptString('( '.repeat(100_000)), 200, deep);
  refused(() => Compel.parsePromptString('a.swap('.repeat(100_000)), 701, deep);
  const deepest = `${'('.repeat(100)}a${')'.repeat(100)}`;
  assert.equal(read(deepest), 'a');
  refused(() => Compel.parsePromptString(`(${deepest})`), 100, deep);
  assert.equal(read('"'.repeat(20_000)).trim(), '');
  for (const long of ['a', 'a ', '\\"', '+', ',', '(a = ', '"a = ', 'a-', ')']) {
    const prompt = long.repeat(20_000);
    assert.ok(read(prompt).length >= prompt.length / 2, long);
  }
  assert.equal(read(`(${'a '.repeat(20_000)})`).length, 39_999);
});

const readA1111 = (prompt: string) => parseA1111(prompt).map(shown);

test("A1111's brackets are weights", () => {
  const cases: Record<string, string[]> = {
    'a cat': ['a cat'],
    '(a) [b] (c:1.5)': ['a:1.1| |b:0.909091| |c:1.5'],
    '((a) b)': ['a:1.21| b:1.1'],
    '(a (b:2) c:0.5)': ['a :0.5|b| c:0.5'],
    'x (a [b': ['x |a :1.1|b'],
    '[a (b] c)': ['a :0.909091|b| c:1.1'],
    '\\(a\\) \\[b\\] \\\\': ['(a) [b] \\'],
    'a) ] b:c :1.5)': ['a) ] b:c :1.5)'],
    'a BREAK b  BREAK\nc': ['a', 'b', 'c'],
    '(a BREAK b)': ['a:1.1', 'b:1.1'],
    BREAKING: ['BREAKING'],
    'a:-1) (b:-0.5)': ['a:-1) |b:-0.5'],
    '': [''],
  };
  for (const [prompt, wanted] of Object.entries(cases)) {
    assert.deepEqual(readA1111(prompt), wanted, prompt);
  }
});

test("what A1111's syntax has beyond weights is refused, with its position", () => {
  refused(() => parseA1111('a [cat:dog:0.5]'), 14, /Prompt editing, \[from:to:when\]/);
  refused(() => parseA1111('a [cat|dog]'), 6, /Alternation, \[a\|b\]/);
  refused(() => parseA1111('a <lora:style:0.8>'), 2, /<lora:name:1>/);
  refused(() => parseA1111('(a:1.2.3)'), 3, /a weight .* found "1\.2\.3".*\(a cat:1\.3\)/);
  refused(() => parseA1111('(['.repeat(50_000)), 100, /brackets at most 100 deep/);
  assert.deepEqual(readA1111('a|b :3 <b>'), ['a|b :3 <b>']);
  assert.throws(() => parseA1111('((a:1e30):1e30)'.replaceAll('1e30', '9'.repeat(38))), {
    code: 'ERR_INVALID_ARGUMENT',
  });
});
