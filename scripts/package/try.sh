#!/usr/bin/env bash
# Installs the tarballs as a user would, where there is no Python and no compiler, and draws with them:
# through the API (ES modules, CommonJS, a worker, a bundle) and the command line. Prints what it took.
#   scripts/package/try.sh [FOLDER WITH THE TARBALLS]
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
tarballs=$(cd "${1:-$repository/out/package}" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/home" "$work/app"
for tool in node npm; do ln -s "$(command -v "$tool")" "$work/bin/$tool"; done
# Scripts find env by its path; nothing else of the system is in sight. How to reach the registry is kept.
reach=("npm_config_registry=$(npm config get registry)")
for name in NODE_EXTRA_CA_CERTS HTTPS_PROXY https_proxy NO_PROXY no_proxy; do
  if [ -n "${!name:-}" ]; then reach+=("$name=${!name}"); fi
done
clean() {
  env -i PATH="$work/bin" HOME="$work/home" npm_config_cache="$work/npm" "${reach[@]}" "$@"
}
seconds() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'; }
say() { printf 'try: %s\n' "$*"; }
# within NAME FIGURE LIMIT UNIT
within() {
  say "$1: $2 $4 (at most $3)"
  awk -v figure="$2" -v limit="$3" 'BEGIN { exit !(figure <= limit) }' || { say "$1: too slow"; exit 1; }
}

cd "$work/app"
for tool in python3 python cc g++ cmake make sh; do
  if clean node -e "process.exit(require('child_process').spawnSync('$tool').error ? 1 : 0)"; then
    say "$tool is still in sight"; exit 1
  fi
done

printf '{ "private": true }\n' >package.json
start=$(date +%s.%N)
clean npm install --no-audit --no-fund --no-update-notifier --loglevel=error \
  "$tarballs"/torchbrush-libtorch-*.tgz "$tarballs"/torchbrush-[0-9]*.tgz
say "installed in $(seconds "$start") s"

# draw FILE: the body of a script that draws a picture into FILE, or the file it is told.
draw() {
  cat <<JS
  const pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  const { images } = await pipe.generate({
    prompt: 'castle, noto style',
    image: join(demoModel, 'inputs', 'house-noto-64.png'),
    seed: 7,
    numInferenceSteps: 10,
  });
  await images[0].save(process.argv[2] ?? '$1');
  pipe.dispose();
  if (memoryStats().networks !== 0) throw new Error('networks are left behind');
JS
}
{
  echo "import { AutoPipelineForImage2Image, demoModel, memoryStats } from 'torchbrush';"
  echo "import { join } from 'node:path';"
  draw esm.png
} >draw.mjs
{
  echo "const { AutoPipelineForImage2Image, demoModel, memoryStats } = require('torchbrush');"
  echo "const { join } = require('node:path');"
  echo '(async () => {'
  draw cjs.png
  echo '})();'
} >draw.cjs
cat >worker.mjs <<'JS'
import { Worker } from 'node:worker_threads';
new Worker(new URL('draw.mjs', import.meta.url), { argv: ['worker.png'] }).on('error', (error) => {
  throw error;
});
JS
start=$(date +%s.%N)
clean node draw.mjs
within 'first picture after the install' "$(seconds "$start")" 60 s
clean node draw.cjs
clean node worker.mjs
clean node_modules/.bin/torchbrush img2img --model demo \
  --image node_modules/torchbrush/models/demo/inputs/house-noto-64.png \
  --prompt 'castle, noto style' --seed 7 --steps 10 --output cli.png
clean node_modules/.bin/torchbrush doctor
# Bundlers leave the package out of their bundle.
esbuild="$repository/node_modules/.bin/esbuild"
flags=(--bundle --platform=node --log-level=warning --external:torchbrush)
"$esbuild" draw.mjs "${flags[@]}" --format=esm --outfile=bundle.mjs
"$esbuild" draw.cjs "${flags[@]}" --format=cjs --outfile=bundle.cjs
clean node bundle.mjs bundle-esm.png
clean node bundle.cjs bundle-cjs.png
# Electron's archive: native code finds what lies beside it, and only there.
mkdir app.asar app.asar.unpacked app.asar.unpacked/node_modules
cp draw.mjs app.asar/
cp -Rl node_modules app.asar/
for package in torchbrush @torchbrush; do mv "app.asar/node_modules/$package" app.asar.unpacked/node_modules/; done
mkdir -p app.asar/node_modules/torchbrush app.asar/node_modules/@torchbrush/libtorch-cpu-linux-x64
for file in torchbrush/package.json torchbrush/dist @torchbrush/libtorch-cpu-linux-x64/package.json; do
  cp -R "app.asar.unpacked/node_modules/$file" "app.asar/node_modules/$file"
done
clean node app.asar/draw.mjs asar.png
[ -s esm.png ] || { say 'no picture was drawn'; exit 1; }
for picture in cjs worker cli bundle-esm bundle-cjs asar; do cmp esm.png "$picture.png"; done
say 'seven equal pictures: ES module, CommonJS, worker, command line, two bundles, archive of an app'

# The first of at most twenty runs that keeps to the limit, else the best: other processes of the
# machine only add to it. For importing, the clock's time or the processor's, whichever is less: others'
# work adds to the one, the process's own helper threads to the other. Importing must not map libtorch.
cat >import.mjs <<'JS'
import { readFileSync } from 'node:fs';
const began = performance.now();
const before = process.cpuUsage();
await import('torchbrush');
const { user, system } = process.cpuUsage(before);
console.log(Math.min(performance.now() - began, (user + system) / 1000).toFixed(0));
if (readFileSync('/proc/self/maps', 'utf8').includes('libtorch')) throw new Error('importing maps libtorch');
JS
cat >begin.mjs <<'JS'
import { AutoPipelineForImage2Image, demoModel } from 'torchbrush';
import { join } from 'node:path';
const pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
const onStep = ({ step }) => {
  // Since the process began.
  if (step === 0) console.log((performance.now() / 1000).toFixed(2));
};
const image = join(demoModel, 'inputs', 'house-noto-64.png');
await pipe.generate({ prompt: 'castle, noto style', image, seed: 7, onStep });
JS
sed "s/await import(/require(/; s/import { readFileSync } from/const { readFileSync } = require(/; s/'node:fs';/'node:fs');/" \
  import.mjs >import.cjs
best() {
  local figure best=1000000
  for _ in {1..20}; do
    figure=$(clean node "$1") || { echo failed; return; }
    best=$(awk -v a="$figure" -v b="$best" 'BEGIN { print (a < b ? a : b) }')
    awk -v a="$best" -v limit="$2" 'BEGIN { exit !(a <= limit) }' && break
  done
  echo "$best"
}
within 'importing (ES module)' "$(best import.mjs 50)" 50 ms
within 'importing (CommonJS)' "$(best import.cjs 50)" 50 ms
within 'first step after the start of the process' "$(best begin.mjs 2)" 2 s
