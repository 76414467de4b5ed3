// Run in child processes by hub-processes.test.ts: fetches one file of a repository.
import { openCheckpointFolder } from '../lib/checkpoints/folder.js';

const [repository = '', file = ''] = process.argv.slice(2);
const { snapshot } = await openCheckpointFolder(repository);
process.send?.('opened');
await new Promise((resolve) => process.once('message', resolve));
await snapshot?.fetch([file]);
process.disconnect?.();
