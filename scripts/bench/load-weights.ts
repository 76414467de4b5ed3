// How long a network takes to load from one folder and from another: .bin against safetensors of the
// same tensors, say. Both must be in the page cache for the figures to mean anything.
//   npx tsx scripts/bench/load-weights.ts UNET_FOLDER OTHER_UNET_FOLDER [rounds]
import { join } from 'node:path';

import { readJsonObject } from '../../lib/checkpoints/json.js';
import { Network } from '../../lib/networks/network.js';

const [first = '', second = '', given = '9'] = process.argv.slice(2);
const { _class_name: className } = await readJsonObject(join(first, 'config.json'));
const folders = [first, second];
const times: number[][] = folders.map(() => []);
for (let round = 0; round < Number(given) + 1; round += 1) {
  for (const [i, folder] of folders.entries()) {
    const start = performance.now();
    const options = { dtype: 'float32', device: 'cpu' } as const;
    const network = await Network.load(folder, String(className), options);
    const time = performance.now() - start;
    network.dispose();
    // The first round finds the program, too.
    if (round > 0) times[i]?.push(time);
  }
}
const medians = times.map((list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0);
for (const [i, folder] of folders.entries()) console.log(`${medians[i]?.toFixed(0)} ms  ${folder}`);
console.log(`ratio ${((medians[1] ?? 0) / (medians[0] ?? 1)).toFixed(2)}`);
