#!/usr/bin/env bash
# Installs the tarballs as a user would, where there is no Python and no compiler, and draws with them:
# through the API (ES modules, CommonJS, a worker) and the command line.
#   scripts/package/try.sh [FOLDER WITH THE TARBALLS]
set -euo pipefail
tarballs=$(cd "${1:-$(dirname "$0")/../../out/package}" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/home" "$work/app"
for tool in node npm npx; do ln -s "$(command -v "$tool")" "$work/bin/$tool"; done
# npm finds env and sh by their paths; nothing else of the system is in sight.
clean() {
  env -i PATH="$work/bin" HOME="$work/home" npm_config_cache="$work/npm" \
    ${npm_config_registry:+npm_config_registry="$npm_config_registry"} "$@"
}
seconds() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'; }
say() { printf 'try: %s\n' "$*"; }

cd "$work/app"
for tool in python3 python cc g++ cmake make; do
  if clean node -e "process.exit(require('child_process').spawnSync('$tool').error ? 1 : 0)"; then
    say "$tool is still in sight"; exit 1
  fi
done

printf '{ "private": true }\n' >package.json
start=$(date +%s.%N)
clean npm install --no-audit --no-fund --loglevel=error "$tarballs"/torchbrush-libtorch-*.tgz "$tarballs"/torchbrush-[0-9]*.tgz
say "installed in $(seconds "$start")"

cat >draw.mjs <<'JS'
import { AutoPipelineForImage2Image, demoModel, memoryStats } from 'torchbrush';
import { join } from 'node:path';
const pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
const image = join(demoModel, 'inputs', 'house-noto-64.png');
const { images } = await pipe.generate({ prompt: 'castle, noto style', image, seed: 7, numInferenceSteps: 10 });
await images[0].save(process.argv[2] ?? 'esm.png');
pipe.dispose();
if (memoryStats().networks !== 0) throw new Error('networks are left behind');
JS
cat >draw.cjs <<'JS'
const { AutoPipelineForText2Image, demoModel } = require('torchbrush');
(async () => {
  const pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const { images } = await pipe.generate({ prompt: 'fox, noto style', seed: 7, numInferenceSteps: 10 });
  await images[0].save('cjs.png');
  pipe.dispose();
})();
JS
cat >worker.mjs <<'JS'
import { Worker } from 'node:worker_threads';
new Worker(new URL('draw.mjs', import.meta.url), { argv: ['worker.png'] }).on('error', (error) => {
  throw error;
});
JS
start=$(date +%s.%N)
clean node draw.mjs
say "first picture $(seconds "$start") after the install"
clean node draw.cjs
clean node worker.mjs
clean npx --no-install torchbrush img2img --model demo --image node_modules/torchbrush/models/demo/inputs/house-noto-64.png \
  --prompt 'castle, noto style' --seed 7 --steps 10 --output cli.png
clean npx --no-install torchbrush doctor
for picture in esm cjs worker cli; do
  [ -s "$picture.png" ] || { say "$picture.png is missing"; exit 1; }
done
cmp esm.png worker.png
cmp esm.png cli.png

# What importing costs: libtorch must not be mapped by it.
clean node --input-type=module -e "
  import { readFileSync } from 'node:fs';
  const start = performance.now();
  await import('torchbrush');
  console.log('try: imported in', (performance.now() - start).toFixed(0), 'ms');
  if (readFileSync('/proc/self/maps', 'utf8').includes('libtorch')) throw new Error('importing maps libtorch');
"
say 'all pictures drawn'
