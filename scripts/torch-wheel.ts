// Where pip finds torch: the official builds for the CPU first, which are small and stand alone.

/** The index of torch's builds for the CPU; the wheels on PyPI are for CUDA. */
const cpuIndex = 'https://download.pytorch.org/whl/cpu';

/** What to tell pip to get the CPU build of a release, the next when one fails. */
export function cpuWheelArguments(release: string): string[][] {
  const exact = `torch==${release}+cpu`;
  // The first asks pip's own sources, for machines that reach no other.
  return [[exact], ['--index-url', cpuIndex, exact]];
}
