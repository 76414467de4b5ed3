/**
 * Byte-level vocabularies write each byte as one printable character: those that Latin-1 can print
 * stand for themselves, the others are numbered from U+0100 upwards.
 */
export const byteCharacters: readonly string[] = nameBytes();

const characterBytes = new Map(byteCharacters.map((character, byte) => [character, byte]));
const encoder = new TextEncoder();

function nameBytes(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : next++);
  });
}

/** Bytes that a token stands for; a token with any other character stands for its own UTF-8. */
export function tokenBytes(token: string): number[] {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = characterBytes.get(character);
    if (byte === undefined) return [...encoder.encode(token)];
    bytes.push(byte);
  }
  return bytes;
}
