// Prompts in Compel's and in A1111's syntax, from a seed.

type Random = () => number;

const words = (
  'a red fox asleep on green hill under evening sun oil painting old lighthouse keeper small wooden ' +
  'boat morning fog portrait of young woman with silver helmet sharp focus highly detailed two cats ' +
  "three dogs playing snow photograph don't well-known 35mm 3.5 café 日本 blurry, low quality, bad " +
  'anatomy! watermark; text. comic: style astronaut riding horse'
).split(' ');

const pick = <T>(random: Random, list: readonly T[]): T =>
  list[Math.floor(random() * list.length)] as T;

const upTo = (random: Random, most: number): number => 1 + Math.floor(random() * most);

function text(random: Random, most: number): string {
  return Array.from({ length: upTo(random, most) }, () => pick(random, words)).join(' ');
}

/** `++`, `--` or a number with one or two digits behind the point. */
function weight(random: Random): string {
  if (random() < 0.5) return pick(random, ['+', '-']).repeat(upTo(random, 3));
  return (0.2 + random() * 1.4).toFixed(upTo(random, 2));
}

function group(random: Random, depth: number): string {
  const inner = phrase(random, depth - 1);
  const escaped = inner.replaceAll('"', '\\"');
  const kinds = [
    () => `(${inner})${weight(random)}`,
    () => `(${inner})`,
    () => `(${inner}).attend(${(0.5 + random()).toFixed(1)})`,
    () => (inner.includes('"') ? `"${escaped}"` : `"${inner}"${weight(random)}`),
    () => `${pick(random, ['fox', 'hill', 'well-known'])}${pick(random, ['++', '-', '+'])}`,
    // Compel pads to the length that the new words would need; these need no more.
    () => `(${text(random, 2)}).swap(a, s_end=0.3)`,
    () => `\\(${text(random, 2)}\\)`,
    () => `fox withLora(style-${upTo(random, 3)}, 0.${upTo(random, 9)})`,
  ];
  return pick(random, kinds)();
}

function phrase(random: Random, depth: number): string {
  const parts = Array.from({ length: upTo(random, 3) }, () =>
    depth > 0 && random() < 0.6 ? group(random, depth) : text(random, 4),
  );
  return parts.join(pick(random, [' ', ' ', ', ']));
}

function weights(random: Random, count: number): string {
  return Array.from({ length: count }, () => (0.1 + random()).toFixed(1)).join(', ');
}

/** `.and()` and `.blend()` of two or three prompts. */
function combination(random: Random, long: boolean): string {
  const prompts = Array.from({ length: 1 + upTo(random, 2) }, () =>
    phrase(random, 2).replace(/\(([^()]*)\)\.swap\([^()]*\)/g, '($1)'),
  );
  if (long) prompts.push(text(random, 28));
  const list = prompts.map((one) => `"${one.replaceAll(/(?<!\\)"/g, '\\"')}"`).join(', ');
  const numbers = random() < 0.7 ? weights(random, prompts.length) : '';
  if (random() < 0.5) return `(${list}).and(${numbers})`;
  const raw = numbers !== '' && random() < 0.3 ? ', no_normalize' : '';
  return `(${list}).blend(${numbers}${raw})`;
}

/** A prompt that uses the syntax as it is meant: nested, combined, or longer than an encoder. */
export function makeCompelPrompt(random: Random): string {
  const kind = random();
  if (kind < 0.02) return '';
  if (kind < 0.1) return text(random, 25);
  if (kind < 0.5) return phrase(random, 3);
  if (kind < 0.65) return `${text(random, 28)} ${phrase(random, 2)} ${text(random, 8)}`;
  return combination(random, kind > 0.9);
}

const soup = (
  '( ) " , . + - ++ -- = \\( \\) \\" \\+ a bc 1 1.5 .5 -2 (a (b) "c" "d e" (f)+ .attend(1.1) .swap(x) ' +
  '.swap(x,s_end=0.2) .blend(1,1) .and() withLora(a) useLora(b,0.3) no_normalize : [ ] ; \n \t'
).split(' ');

/** Pieces of syntax in any order: most of it is text in the end. */
export function makeSoup(random: Random): string {
  const pieces = Array.from({ length: upTo(random, 9) }, () => pick(random, soup));
  return pieces.join(pick(random, ['', '', ' ']));
}

function bracketed(random: Random, depth: number): string {
  const inner =
    depth > 0 && random() < 0.5
      ? `${text(random, 3)}, ${bracketed(random, depth - 1)} ${text(random, 2)}`
      : text(random, 4);
  const plain = inner.replaceAll(':', '');
  const kinds = [
    () => `(${plain})`,
    () => `[${plain}]`,
    () => `(${plain}:${(0.3 + random() * 1.5).toFixed(upTo(random, 2))})`,
    () => `((${plain}))`,
    () => `\\(${plain}\\)`,
    () => `(${plain}`,
  ];
  return pick(random, kinds)();
}

/** A prompt in A1111's syntax; some take several rows, some have brackets that nothing closes. */
export function makeA1111Prompt(random: Random): string {
  const parts = Array.from({ length: upTo(random, 5) }, () =>
    random() < 0.5 ? bracketed(random, 2) : text(random, 9),
  );
  return parts.join(pick(random, [' ', ', ', ', ', ' BREAK ']));
}
