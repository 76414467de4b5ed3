const controller = new AbortController();

/** Aborted by Ctrl-C or SIGTERM. A second one ends the process at once. */
export const signal = controller.signal;

for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => controller.abort(new Error('interrupted')));
}
