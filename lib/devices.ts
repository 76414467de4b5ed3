// Device names, and which of them answer.
import { expected } from './errors.js';
import { libtorchInUse, native } from './native.js';

/**
 * The name in full: `'cuda:0'` for `'cuda'`.
 *
 * @throws InvalidArgumentError for a device that does not answer
 */
export function checkDevice(name: unknown): string {
  if (name === 'cpu') return name;
  const index = typeof name === 'string' ? /^cuda(?::(\d+))?$/.exec(name) : null;
  if (index === null) throw expected("'auto', 'cpu', 'cuda' or 'cuda:N'", 'device', name);
  const count = native().cudaCount();
  const number = Number(index[1] ?? 0);
  if (number < count) return `cuda:${number}`;
  const problem = libtorchInUse().cudaProblem;
  const why = problem === undefined ? '' : `libtorch's CUDA part could not be opened: ${problem}. `;
  throw expected(
    count === 0 ? "'cpu' (no CUDA device answers)" : `cuda:0 to cuda:${count - 1}`,
    'device',
    name,
    `${why}Run "npx torchbrush doctor" to see what was found.`,
  );
}
