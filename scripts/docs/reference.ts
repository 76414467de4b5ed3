// What the package exports, with its documentation comments, as the TypeScript compiler sees it.
import { join, relative } from 'node:path';
import ts from 'typescript';

import { packageRoot } from '../../lib/package-root.js';

/** A documentation comment. */
export interface Doc {
  text: string;
  parameters: [name: string, text: string][];
  returns: string;
  throws: string[];
  examples: string[];
}

export interface Member {
  name: string;
  /** As in the source, without a body. */
  signature: string;
  /** Of a property: what may be in it. */
  type: string | undefined;
  isOptional: boolean;
  doc: Doc;
  /** Of a scheduler's `config`: its fields with their types. */
  fields?: string[];
}

export interface Entry {
  name: string;
  kind: 'class' | 'interface' | 'type' | 'function' | 'constant';
  /** Below lib/. */
  file: string;
  signature: string;
  doc: Doc;
  members: Member[];
  /** Exported types that it has further members of. */
  bases: string[];
}

/** All exports of lib/index.ts, by name. */
export function readReference(): Entry[] {
  const lib = join(packageRoot, 'lib');
  const { config } = ts.readConfigFile(join(packageRoot, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, packageRoot);
  const program = ts.createProgram([join(lib, 'index.ts')], options);
  const source = program.getSourceFile(join(lib, 'index.ts'));
  const checker = program.getTypeChecker();
  const module = source && checker.getSymbolAtLocation(source);
  if (module === undefined) throw new Error('lib/index.ts exports nothing.');
  const symbols = checker.getExportsOfModule(module).map((symbol) => ({
    name: symbol.name,
    symbol: symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol,
  }));
  const reader = new Reader(checker, new Map(symbols.map(({ name, symbol }) => [symbol, name])));
  return symbols
    .map(({ name, symbol }) => reader.entry(name, symbol, lib))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

class Reader {
  constructor(
    readonly checker: ts.TypeChecker,
    readonly exported: ReadonlyMap<ts.Symbol, string>,
  ) {}

  entry(name: string, symbol: ts.Symbol, lib: string): Entry {
    const node = symbol.declarations?.find((one) => !isOverloadBody(one, symbol));
    if (node === undefined) throw new Error(`${name} is declared nowhere.`);
    const file = relative(lib, node.getSourceFile().fileName);
    const common = { name, file, doc: this.doc(symbol), members: [], bases: [] };
    if (ts.isClassDeclaration(node)) {
      const signature = dedent(headOf(node));
      return { ...common, kind: 'class', signature, ...this.#classMembers(symbol, node) };
    }
    if (ts.isInterfaceDeclaration(node)) {
      const type = this.checker.getDeclaredTypeOfSymbol(symbol);
      const signature = dedent(headOf(node));
      return { ...common, kind: 'interface', signature, ...this.#properties(symbol, type) };
    }
    if (ts.isTypeAliasDeclaration(node)) {
      const type = this.checker.getDeclaredTypeOfSymbol(symbol);
      const hasMembers = !type.isUnion() && type.getCallSignatures().length === 0;
      const isText = (type.flags & ts.TypeFlags.StringLike) !== 0;
      const members = hasMembers && !isText ? this.#properties(symbol, type) : {};
      return { ...common, kind: 'type', signature: withoutExport(node), ...members };
    }
    const overloads = (symbol.declarations ?? []).filter((one) => !isOverloadBody(one, symbol));
    if (ts.isFunctionDeclaration(node)) {
      const signature = overloads.map((one) => signatureOf(one)).join('\n');
      return { ...common, kind: 'function', signature };
    }
    return { ...common, kind: 'constant', signature: this.#constant(symbol, node) };
  }

  #constant(symbol: ts.Symbol, node: ts.Declaration): string {
    if (!ts.isVariableDeclaration(node)) throw new Error(`${symbol.name} is of no known kind.`);
    const { initializer } = node;
    const isTable = initializer !== undefined && ts.isAsExpression(initializer);
    if (isTable) return `const ${symbol.name} = ${dedent(initializer.getText())}`;
    const type = this.checker.getTypeOfSymbolAtLocation(symbol, node);
    return `const ${symbol.name}: ${this.checker.typeToString(type, node, noTruncation)}`;
  }

  #classMembers(symbol: ts.Symbol, node: ts.ClassDeclaration): Pick<Entry, 'members' | 'bases'> {
    const statics = this.checker.getTypeOfSymbolAtLocation(symbol, node);
    const instance = this.checker.getDeclaredTypeOfSymbol(symbol);
    const fixed = this.#properties(symbol, statics);
    const own = this.#properties(symbol, instance);
    const makers = node.members.filter(ts.isConstructorDeclaration).filter(isShown);
    const members = makers.map((maker): Member => {
      const made = this.checker.getSignatureFromDeclaration(maker);
      const doc = made === undefined ? emptyDoc() : docOf(made, this.checker);
      const signature = signatureOf(maker).replace(/^constructor/, `new ${symbol.name}`);
      return { name: 'constructor', signature, type: undefined, isOptional: false, doc };
    });
    const bases = [...new Set([...fixed.bases, ...own.bases])];
    return { members: [...members, ...fixed.members, ...own.members], bases };
  }

  /** Members of a type; those of exported other types are left to these, which are the bases. */
  #properties(owner: ts.Symbol, type: ts.Type): Pick<Entry, 'members' | 'bases'> {
    const members: Member[] = [];
    const bases: string[] = [];
    const shownBy = this.#shownBy(type);
    for (const property of this.checker.getPropertiesOfType(type)) {
      const nodes = (property.declarations ?? []).filter((one) => isMember(one) && isShown(one));
      const [node] = nodes;
      if (node === undefined || property.name === 'prototype') continue;
      if (!node.getSourceFile().fileName.startsWith(join(packageRoot, 'lib'))) continue;
      const parent = symbolOf(node.parent) as ts.Symbol;
      const base =
        parent === owner ? undefined : (shownBy.get(parent) ?? this.exported.get(parent));
      if (base === undefined) members.push(this.#member(property, nodes));
      else if (!bases.includes(base)) bases.push(base);
    }
    return { members, bases };
  }

  /** For types above one that are not exported: the exported one below them, if there is one. */
  #shownBy(type: ts.Type, below?: string): Map<ts.Symbol, string> {
    const shown = new Map<ts.Symbol, string>();
    const declared = (type as ts.TypeReference).target ?? type;
    if (!declared.isClassOrInterface()) return shown;
    for (const base of this.checker.getBaseTypes(declared)) {
      const name = this.exported.get(base.symbol) ?? below;
      if (name !== undefined) shown.set(base.symbol, name);
      for (const [symbol, by] of this.#shownBy(base, name)) shown.set(symbol, by);
    }
    return shown;
  }

  #member(property: ts.Symbol, nodes: readonly ts.Declaration[]): Member {
    const node = nodes[0] as ts.Declaration;
    const name = property.name.startsWith('__@') ? '[Symbol.dispose]' : property.name;
    const isOptional = (property.flags & ts.SymbolFlags.Optional) !== 0;
    const common = { name, isOptional, doc: this.doc(property) };
    const isValue =
      ts.isPropertySignature(node) || ts.isPropertyDeclaration(node) || ts.isAccessor(node);
    if (!isValue) {
      const overloads = nodes.filter((one) => !isOverloadBody(one, property));
      const signature = overloads.map((one) => signatureOf(one)).join('\n');
      return { ...common, signature, type: undefined };
    }
    const written = ts.isSetAccessor(node) ? undefined : node.type?.getText();
    const value = this.checker.getTypeOfSymbolAtLocation(property, node);
    const type = dedent(written ?? this.checker.typeToString(value, node, noTruncation));
    const flags = ts.getCombinedModifierFlags(node);
    const isFixed = flags & ts.ModifierFlags.Readonly || isGetterOnly(property);
    const words = [flags & ts.ModifierFlags.Static ? 'static ' : '', isFixed ? 'readonly ' : ''];
    const fields = name === 'config' && /^[A-Z]\w+Config$/.test(type) ? this.#fields(value) : [];
    return { ...common, signature: `${words.join('')}${name}: ${type}`, type, fields };
  }

  #fields(type: ts.Type): string[] {
    return this.checker.getPropertiesOfType(type).map((field) => {
      const value = this.checker.getTypeOfSymbol(field);
      const text = this.checker.typeToString(value, undefined, noTruncation);
      // The compiler's order of choices depends on what it has seen before.
      const choices = /^"[\w"| ]+"$/.test(text) ? text.split(' | ').sort().join(' | ') : text;
      return `${field.name}: ${choices}`;
    });
  }

  doc(symbol: ts.Symbol): Doc {
    return docOf(symbol, this.checker);
  }
}

const noTruncation = ts.TypeFormatFlags.NoTruncation;

function docOf(of: ts.Symbol | ts.Signature, checker: ts.TypeChecker): Doc {
  const isSymbol = 'escapedName' in of;
  const parts = isSymbol
    ? of.getDocumentationComment(checker)
    : of.getDocumentationComment(checker);
  const tags = isSymbol ? of.getJsDocTags(checker) : of.getJsDocTags();
  const doc = { ...emptyDoc(), text: ts.displayPartsToString(parts) };
  for (const { name, text } of tags) {
    const words = ts.displayPartsToString(text);
    const [, parameter = '', about = ''] = /^(\S+)\s*([\s\S]*)$/.exec(words) ?? [];
    if (name === 'param') doc.parameters.push([parameter, about]);
    else if (name === 'returns') doc.returns = words;
    else if (name === 'throws') doc.throws.push(words);
    else if (name === 'example') doc.examples.push(words);
  }
  return doc;
}

function emptyDoc(): Doc {
  return { text: '', parameters: [], returns: '', throws: [], examples: [] };
}

function symbolOf(node: ts.Node): ts.Symbol | undefined {
  return (node as { symbol?: ts.Symbol }).symbol;
}

function isMember(node: ts.Declaration): boolean {
  return ts.isClassElement(node) || ts.isTypeElement(node) || ts.isParameter(node);
}

function isShown(node: ts.Declaration): boolean {
  const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
  if (ts.getCombinedModifierFlags(node) & hidden) return false;
  if ('name' in node && node.name && ts.isPrivateIdentifier(node.name as ts.Node)) return false;
  return !ts.getJSDocTags(node).some(({ tagName }) => tagName.text === 'internal');
}

/** Whether a node is the body behind overloads, which callers do not see. */
function isOverloadBody(node: ts.Declaration, symbol: ts.Symbol): boolean {
  const isCallable = ts.isFunctionDeclaration(node) || ts.isMethodDeclaration(node);
  return isCallable && node.body !== undefined && (symbol.declarations?.length ?? 0) > 1;
}

function isGetterOnly({ declarations = [] }: ts.Symbol): boolean {
  return declarations.some(ts.isGetAccessor) && !declarations.some(ts.isSetAccessor);
}

/** A declaration up to its body. */
function signatureOf(node: ts.Declaration): string {
  const { body } = node as { body?: ts.Node };
  const text = node.getText();
  const end = body === undefined ? text.length : body.getStart() - node.getStart();
  return dedent(text.slice(0, end).replace(/^(export )?((?:static )?)(async )?/, '$2'))
    .trim()
    .replace(/;$/, '');
}

/** `class A extends B`, without what is in it. */
function headOf(node: ts.ClassDeclaration | ts.InterfaceDeclaration): string {
  const text = node.getText();
  const first = node.members[0];
  const until = first === undefined ? text.length : first.getFullStart() - node.getStart();
  return text
    .slice(0, until)
    .replace(/\s*\{\s*\}?\s*$/, '')
    .replace(/^export /, '');
}

function withoutExport(node: ts.Declaration): string {
  return dedent(node.getText())
    .replace(/^export /, '')
    .replace(/;$/, '');
}

/** Lines after the first, moved left as far as the least indented one allows. */
function dedent(text: string): string {
  const shown = text.split('\n').filter((line) => !/^\s*\/\//.test(line));
  const [first = '', ...rest] = shown;
  const indents = rest.filter((line) => line.trim() !== '').map((line) => line.search(/\S/));
  const least = Math.min(...indents, 80);
  return [first, ...rest.map((line) => line.slice(least))].join('\n');
}
