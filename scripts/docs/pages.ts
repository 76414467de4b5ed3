// The API reference: docs/api/*.md.
import { exampleBlock } from './examples.js';
import { type Doc, type Entry, type Member, readReference } from './reference.js';

interface Page {
  file: string;
  title: string;
  about: string;
  holds(entry: Entry): boolean;
}

const isIn =
  (...folders: string[]) =>
  ({ file }: Entry) =>
    folders.some((folder) => file.startsWith(folder));

/** An entry belongs to the first page that holds it. */
const pages: readonly Page[] = [
  {
    file: 'pipelines.md',
    title: 'Pipelines',
    about: 'What draws: one class for each kind of checkpoint and task.',
    holds: ({ file, kind }) =>
      file.startsWith('pipelines/') && (kind === 'class' || kind === 'function'),
  },
  {
    file: 'options.md',
    title: 'Options and results of pipelines',
    about: 'What `fromPretrained`, `generate` and callbacks take and give.',
    holds: isIn('pipelines/'),
  },
  {
    file: 'schedulers.md',
    title: 'Schedulers',
    about: 'Sampling algorithms.',
    holds: isIn('schedulers/'),
  },
  {
    file: 'networks.md',
    title: 'Networks',
    about: 'The parts of pipelines that have weights.',
    holds: isIn('networks/', 'images/clip'),
  },
  {
    file: 'prompts.md',
    title: 'Prompts',
    about: 'Tokens, embeddings and weights of words.',
    holds: isIn('prompts/', 'tokenizer/'),
  },
  {
    file: 'adapters-and-hub.md',
    title: 'Adapters and the hub',
    about: 'Options of LoRA, textual inversion and downloads.',
    holds: isIn('adapters/', 'checkpoints/'),
  },
  {
    file: 'pictures-and-tensors.md',
    title: 'Pictures and tensors',
    about: 'What goes in and what comes out.',
    holds: isIn('image', 'tensor.ts', 'generator.ts'),
  },
  {
    file: 'settings-and-errors.md',
    title: 'Settings and errors',
    about: 'What concerns the whole process.',
    holds: () => true,
  },
];

const notice = '<!-- Made from the comments in lib/ by "npm run docs". Edit those. -->';

/** Texts of the pages, by file name. */
export function makePages(entries: readonly Entry[] = readReference()): Map<string, string> {
  const pageOf = new Map(
    entries.map((entry) => [entry.name, pages.find(({ holds }) => holds(entry)) as Page]),
  );
  const link = (name: string, from?: Page) => {
    const page = pageOf.get(name);
    const file = page === from ? '' : page?.file;
    return `[\`${name}\`](${file}#${name.toLowerCase()})`;
  };
  const made = new Map<string, string>();
  const index = [
    notice,
    '# API reference',
    'Everything that the package exports. [The overview](../api.md) has the options that are needed most.',
  ];
  for (const page of pages) {
    const held = entries.filter(({ name }) => pageOf.get(name) === page);
    const shown = held.map((entry) => showEntry(entry, entries, (name) => link(name, page)));
    const head = [notice, `# ${page.title}`, `${page.about} [All pages](README.md)`];
    made.set(page.file, `${[...head, ...shown].join('\n\n')}\n`);
    const rows = held.map(({ name, kind, doc }) => [link(name), kind, cell(firstSentence(doc))]);
    index.push(`## [${page.title}](${page.file})`, table(['name', 'kind', 'what'], rows));
  }
  made.set('README.md', `${index.join('\n\n')}\n`);
  return made;
}

/** What has no comment: names of exports and `Class.member`. */
export function undocumented(entries: readonly Entry[] = readReference()): string[] {
  const missing: string[] = [];
  for (const { name, doc, members } of entries) {
    if (doc.text === '') missing.push(name);
    for (const member of members) {
      if (member.name.startsWith('[') || member.name === 'constructor') continue;
      if (member.doc.text === '') missing.push(`${name}.${member.name}`);
    }
  }
  return missing;
}

function showEntry(entry: Entry, all: readonly Entry[], link: (name: string) => string): string {
  const { name, kind, signature, doc, members, bases } = entry;
  const show = (one: Doc, part: 'text' | 'tags') =>
    showDoc(one, part, (text) => exampleBlock(text, entry, all));
  const parts = [`## ${name}`, ...show(doc, 'text'), code(signature), ...show(doc, 'tags')];
  const properties = members.filter(({ type }) => type !== undefined);
  if (properties.length > 0 && !repeats(entry)) {
    const rows = properties.map((one) => [nameOf(one), typeCell(one), cell(flatten(one.doc))]);
    parts.push(table(['property', 'type', ''], rows));
  }
  const fields = members.flatMap((one) => one.fields ?? []);
  if (fields.length > 0) parts.push('Fields of `config`:', code(fields.join('\n')));
  const methods = members.filter(({ type }) => type === undefined);
  for (const method of methods) {
    // Names of methods occur in many classes: the class before them makes anchors unique.
    parts.push(`### ${name}.${method.name}`, ...show(method.doc, 'text'));
    parts.push(code(method.signature), ...show(method.doc, 'tags'));
  }
  if (bases.length > 0) parts.push(`Further members: those of ${bases.map(link).join(', ')}.`);
  const text = [signature, ...members.map((one) => one.signature)].join('\n');
  const words = new Set(text.match(/\b[A-Z]\w+/g));
  const others = all.filter((one) => words.has(one.name) && one.name !== name);
  const related = others.filter((one) => !bases.includes(one.name)).map((one) => link(one.name));
  if (related.length > 0) parts.push(`Types: ${related.join(', ')}.`);
  return kind === 'constant' ? parts.slice(0, 3).join('\n\n') : parts.join('\n\n');
}

/** Whether an alias shows all its properties in its text already. */
function repeats({ kind, members, doc, signature }: Entry): boolean {
  const isPlain = members.every((member) => member.doc.text === '' || member.doc.text === doc.text);
  return kind === 'type' && (isPlain || !signature.includes('{'));
}

function showDoc(doc: Doc, part: 'text' | 'tags', example: (code: string) => string): string[] {
  if (part === 'text') {
    const text = withoutLinks(doc.text).replaceAll(
      /```ts\n([\s\S]*?)\n```\n*/g,
      (_, code: string) => `${example(code)}\n\n`,
    );
    return text === '' ? [] : [text.trim()];
  }
  const lines = doc.parameters.map(([name, text]) => `- \`${name}\`: ${oneLine(text)}`);
  if (doc.returns !== '') lines.push(`- returns ${oneLine(doc.returns)}`);
  for (const text of doc.throws) lines.push(`- throws ${oneLine(text)}`);
  const list = lines.length > 0 ? [lines.join('\n')] : [];
  return [...list, ...doc.examples.map(example)];
}

function flatten({ text, throws }: Doc): string {
  return withoutLinks([text, ...throws.map((one) => `Throws ${one}.`)].join(' ').trim());
}

function firstSentence({ text }: Doc): string {
  const [line = ''] = text.split('\n\n');
  return oneLine(line).replace(/(?<=\.)\s.*$/, '');
}

function nameOf({ name, isOptional, signature }: Member): string {
  const prefix = signature.startsWith('static ') ? 'static ' : '';
  return `\`${prefix}${name}${isOptional ? '?' : ''}\``;
}

function typeCell({ type = '' }: Member): string {
  return cell(`\`${oneLine(type).replace(/^\| /, '')}\``);
}

const withoutLinks = (text: string) => text.replaceAll(/\{@link (\w+)\}/g, '`$1`');
const oneLine = (text: string) => text.replaceAll(/\s+/g, ' ').trim();
const cell = (text: string) => oneLine(text).replaceAll('|', '\\|');
/** Not ts: signatures are no programs. */
const code = (text: string) => `\`\`\`typescript\n${text.trim()}\n\`\`\``;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}
