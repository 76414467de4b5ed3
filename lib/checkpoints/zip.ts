// The directory of a zip archive whose entries are stored as they are, so that each can be read by itself.
// Nothing in it is believed before it is checked. (APPNOTE.TXT 6.3, with the zip64 extension.)
import { CheckpointError } from '../errors.js';
import type { ByteSource } from './weight-file.js';

/** Where an entry's bytes lie in the file. */
export interface ZipEntry {
  offset: number;
  size: number;
}

const endSignature = 0x06054b50;
const endSize = 22;
const longestComment = 0xffff;
const locatorSignature = 0x07064b50;
const locatorSize = 20;
const end64Signature = 0x06064b50;
const end64Size = 56;
const entrySignature = 0x02014b50;
const entrySize = 46;
const localSignature = 0x04034b50;
const localSize = 30;
/** A 32-bit field that says: look in the zip64 field instead. */
const elsewhere = 0xffffffff;

/** Checkpoints have an entry for each tensor, a few thousand; larger directories are no checkpoint's. */
const mostEntries = 50_000;
const largestDirectory = 32 * 1024 * 1024;

interface Directory {
  offset: number;
  size: number;
  entries: number;
}

interface ListedEntry {
  text: string;
  name: Buffer;
  size: number;
  localOffset: number;
}

/**
 * The entries of an archive, by name.
 *
 * @throws CheckpointError when the archive is damaged, or an entry is compressed or encrypted
 */
export async function readZipDirectory(file: ByteSource): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(file);
  const bytes = await file.read(directory.offset, directory.size);
  const listed = parseDirectory(file, bytes, directory.entries);
  const headers = await file.readAll(
    listed.map(({ name, localOffset }) => ({
      offset: localOffset,
      length: localSize + name.length,
    })),
  );
  const entries = new Map<string, ZipEntry>();
  for (const [i, entry] of listed.entries()) {
    const place = locate(file, entry, headers[i] as Buffer, directory.offset);
    entries.set(entry.text, place);
  }
  return entries;
}

async function findDirectory(file: ByteSource): Promise<Directory> {
  const tailStart = Math.max(0, file.size - endSize - longestComment - locatorSize);
  const tail = await file.read(tailStart, file.size - tailStart);
  const end = findEnd(tail);
  if (end < 0) throw damaged(file, 'the end of the zip archive is missing');
  const hasLocator =
    end >= locatorSize && tail.readUInt32LE(end - locatorSize) === locatorSignature;
  const directory = hasLocator
    ? await readEnd64(file, toNumber(file, tail.readBigUInt64LE(end - locatorSize + 8)))
    : {
        entries: tail.readUInt16LE(end + 10),
        size: tail.readUInt32LE(end + 12),
        offset: tail.readUInt32LE(end + 16),
      };
  const { offset, size, entries } = directory;
  if (offset + size > tailStart + end) throw damaged(file, 'its directory overlaps its end');
  if (size > largestDirectory || entries > mostEntries) {
    throw damaged(file, `its directory has ${entries} entries in ${size} bytes`);
  }
  return directory;
}

/** Looked for from the back: a comment of any length may follow. */
function findEnd(tail: Buffer): number {
  for (let at = tail.length - endSize; at >= 0; at -= 1) {
    const reachesEnd = () => at + endSize + tail.readUInt16LE(at + 20) === tail.length;
    if (tail.readUInt32LE(at) === endSignature && reachesEnd()) return at;
  }
  return -1;
}

async function readEnd64(file: ByteSource, offset: number): Promise<Directory> {
  const bytes = await file.read(offset, end64Size);
  if (bytes.readUInt32LE(0) !== end64Signature) throw damaged(file, 'its zip64 end is missing');
  return {
    entries: toNumber(file, bytes.readBigUInt64LE(32)),
    size: toNumber(file, bytes.readBigUInt64LE(40)),
    offset: toNumber(file, bytes.readBigUInt64LE(48)),
  };
}

function parseDirectory(file: ByteSource, bytes: Buffer, count: number): ListedEntry[] {
  const entries: ListedEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    if (at + entrySize > bytes.length || bytes.readUInt32LE(at) !== entrySignature) {
      throw damaged(file, `entry ${i} of its directory is broken`);
    }
    const nameEnd = at + entrySize + bytes.readUInt16LE(at + 28);
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30);
    const next = extraEnd + bytes.readUInt16LE(at + 32);
    if (next > bytes.length) throw damaged(file, `entry ${i} of its directory is cut off`);
    const name = bytes.subarray(at + entrySize, nameEnd);
    const text = name.toString('utf8');
    if (names.has(text)) throw damaged(file, `it has two entries ${JSON.stringify(text)}`);
    names.add(text);
    const fixed = bytes.subarray(at, at + entrySize);
    const place = parsePlace(file, fixed, bytes.subarray(nameEnd, extraEnd), text);
    entries.push({ text, name, size: place.size, localOffset: place.localOffset });
    at = next;
  }
  if (at !== bytes.length) throw damaged(file, 'its directory has bytes that no entry claims');
  return entries;
}

function parsePlace(file: ByteSource, fixed: Buffer, extra: Buffer, name: string) {
  const isEncrypted = (fixed.readUInt16LE(8) & 1) === 1;
  if (isEncrypted || fixed.readUInt16LE(10) !== 0) {
    throw new CheckpointError(
      `The entry ${JSON.stringify(name)} of ${file.path} is ${isEncrypted ? 'encrypted' : 'compressed'}. Expected an archive that torch.save wrote, whose entries are stored as they are.`,
    );
  }
  // The zip64 field has those values, in this order, whose 32-bit fields are full.
  const wide = extra.length > 0 ? zip64Values(file, extra) : [];
  const value = (at: number): number => {
    const narrow = fixed.readUInt32LE(at);
    if (narrow !== elsewhere) return narrow;
    const next = wide.shift();
    if (next === undefined) throw damaged(file, `${JSON.stringify(name)} lacks its zip64 field`);
    return next;
  };
  const size = value(24);
  const storedSize = value(20);
  const localOffset = value(42);
  if (size !== storedSize) throw damaged(file, `${JSON.stringify(name)} has two sizes`);
  return { size, localOffset };
}

function zip64Values(file: ByteSource, extra: Buffer): number[] {
  let at = 0;
  while (at + 4 <= extra.length) {
    const id = extra.readUInt16LE(at);
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) throw damaged(file, 'an extra field is cut off');
    if (id === 1) {
      const values: number[] = [];
      for (let i = at + 4; i + 8 <= end; i += 8) {
        values.push(toNumber(file, extra.readBigUInt64LE(i)));
      }
      return values;
    }
    at = end;
  }
  return [];
}

/** The bytes follow a second, local header, whose length differs from the directory's. */
function locate(
  file: ByteSource,
  { text, name, size, localOffset }: ListedEntry,
  header: Buffer,
  directoryOffset: number,
): ZipEntry {
  const isHeader = header.readUInt32LE(0) === localSignature;
  if (!isHeader || header.compare(name, 0, name.length, localSize) !== 0) {
    throw damaged(file, `the entry ${JSON.stringify(text)} is not at its place`);
  }
  const offset = localOffset + localSize + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (offset + size > directoryOffset) {
    throw damaged(file, `the entry ${JSON.stringify(text)} is cut off`);
  }
  return { offset, size };
}

function toNumber(file: ByteSource, value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw damaged(file, 'an offset in it is beyond all size');
  return number;
}

function damaged(file: ByteSource, reason: string): CheckpointError {
  return new CheckpointError(`${file.path} is damaged or truncated: ${reason}. Copy it again.`);
}
