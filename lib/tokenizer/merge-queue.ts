/** A possible merge: `merge` orders by rank first, `position` is the left symbol's place. */
export interface QueuedMerge {
  merge: number;
  position: number;
}

/** Binary heap that gives the lowest merge first, and of equal ones the leftmost. */
export class MergeQueue {
  readonly #entries: QueuedMerge[] = [];

  push(merge: number, position: number): void {
    const entries = this.#entries;
    const entry = { merge, position };
    let child = entries.length;
    while (child > 0) {
      const parent = (child - 1) >>> 1;
      if (!isBefore(entry, entries[parent] as QueuedMerge)) break;
      entries[child] = entries[parent] as QueuedMerge;
      child = parent;
    }
    entries[child] = entry;
  }

  pop(): QueuedMerge | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return top;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= entries.length) break;
      const sibling = entries[child + 1];
      if (sibling !== undefined && isBefore(sibling, entries[child] as QueuedMerge)) child++;
      if (!isBefore(entries[child] as QueuedMerge, last)) break;
      entries[parent] = entries[child] as QueuedMerge;
      parent = child;
    }
    entries[parent] = last;
    return top;
  }
}

function isBefore(a: QueuedMerge, b: QueuedMerge): boolean {
  return a.merge < b.merge || (a.merge === b.merge && a.position < b.position);
}
