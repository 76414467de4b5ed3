// A peer of the benchmarks: stable-diffusion.cpp under the bare runtime, told what to do by lines of
// JSON on standard input.
//   bare stable_diffusion_cpp.cjs FOLDER_WITH_PACKAGES THREADS
const [folder, threads] = Bare.argv.slice(2);
const packages = `${folder}/node_modules`;
const { ImgStableDiffusion } = require(`${packages}/@qvac/diffusion-cpp`);
const Pipe = require(`${packages}/bare-pipe`);

let model;

const tasks = {
  /** Loads a checkpoint: a single file, or a folder in diffusers' layout. */
  async open({ path, type, config }) {
    await model?.unload();
    const began = Date.now();
    model = new ImgStableDiffusion({
      files: { model: path },
      config: { threads: Number(threads), device: 'cpu', type, ...config },
      opts: { stats: true },
    });
    await model.load();
    return { seconds: (Date.now() - began) / 1000 };
  },

  /** One guided step: the time between two of its reports of progress. */
  async unet({ size }) {
    const response = await model.run({
      prompt: 'a castle by the sea',
      negative_prompt: 'people',
      width: size,
      height: size,
      steps: 20,
      cfg_scale: 7.5,
      sampling_method: 'euler',
      seed: 1,
    });
    const times = [];
    const read = (data) => {
      if (typeof data !== 'string') return;
      times.push(JSON.parse(data).elapsed_ms);
      // The step after the first is measured, in which buffers are made.
      if (times.length === 3) model.cancel();
    };
    await response
      .onUpdate(read)
      .await()
      .catch((error) => {
        if (times.length < 3) throw error;
      });
    return { seconds: (times[2] - times[1]) / 1000 };
  },

  async close() {
    await model?.unload();
    model = undefined;
    return { done: true };
  },
};

const say = (answer) => console.log(JSON.stringify(answer));

async function answer(line) {
  const { task, ...options } = JSON.parse(line);
  try {
    say(await tasks[task](options));
  } catch (error) {
    say({ error: String(error?.message ?? error) });
  }
}

const { version } = require(`${packages}/@qvac/diffusion-cpp/package.json`);
say({ '@qvac/diffusion-cpp': version, bare: Bare.version, threads: Number(threads) });

const input = new Pipe(0);
let rest = '';
let busy = Promise.resolve();
input.on('data', (chunk) => {
  const lines = `${rest}${chunk}`.split('\n');
  rest = lines.pop();
  for (const line of lines) busy = busy.then(() => answer(line));
});
// Whoever asked is gone: nobody waits for what is under way.
for (const over of ['end', 'close', 'error']) input.on(over, () => Bare.exit(0));
