// A reporter for node:test that writes one JSON array: what each test came to, and why one was skipped.
export default async function* report(source) {
  const tests = [];
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // A file counts as a test of its own where it fails as a whole only.
    if (type === 'test:pass' && data.name.endsWith('.test.ts')) continue;
    const { name, skip, details } = data;
    const skipped = skip !== undefined && skip !== false;
    tests.push({
      name,
      result: skipped ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed',
      ...(skipped && { reason: skip === true ? '' : skip }),
      milliseconds: Math.round(details.duration_ms),
      ...(type === 'test:fail' && {
        error: String(details.error?.cause?.message ?? details.error?.message),
      }),
    });
  }
  yield `${JSON.stringify(tests, null, 2)}\n`;
}
