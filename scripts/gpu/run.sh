#!/usr/bin/env bash
# Builds torchbrush against this machine's PyTorch, runs the GPU tests and the benchmark, and writes what
# came of it as JSON. Needs a Python with torch (for CUDA), nvcc, cmake, make or ninja, and a C++ compiler;
# no network and no Node.
#   bash run.sh [--out DIR] [--parts unpack,build,check,tests,model,full,bench]
# Each part writes its own file under DIR, so parts may be run one by one where time is short. The exit
# status is that of the worst part.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$here/results
parts=unpack,build,check,tests,model,full,bench
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --parts) parts=$2; shift 2 ;;
    *) echo "usage: bash run.sh [--out DIR] [--parts unpack,build,check,tests,model,full,bench]" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$here/work
project=$work/torchbrush
python=${TORCHBRUSH_PYTHON:-python3}
status=0

say() { echo "gpu: $*" >&2; }
wanted() { case ",$parts," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

# part NAME COMMAND…: runs it, keeps its output and how it ended.
part() {
  local name=$1 began code
  shift
  wanted "$name" || return 0
  say "$name"
  began=$(date +%s)
  "$@" >"$out/$name.log" 2>&1
  code=$?
  printf '{"part": "%s", "exit": %d, "seconds": %d}\n' "$name" "$code" $(($(date +%s) - began)) >"$out/$name.part.json"
  if [ $code -ne 0 ]; then
    status=1
    say "$name ended with $code:"
    tail -n 20 "$out/$name.log" >&2
  fi
  return $code
}

unpack() {
  rm -rf "$work" && mkdir -p "$work" || return 1
  # Not every tar knows xz; every Python with torch does.
  tar -C "$work" -xJf "$here/payload.tar.xz" 2>/dev/null ||
    "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/payload.tar.xz" "$work"
}

# What Python lacks comes from the wheels; what it has is never shadowed.
add_wheels() {
  local wheel name
  for wheel in "$work"/wheels/*.whl; do
    [ -e "$wheel" ] || continue
    name=$(basename "$wheel")
    name=${name%%-*}
    "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$name') is None)" && continue
    "$python" -m pip install --quiet --no-deps --no-index --target "$work/python" "$wheel" || echo "$name was not installed"
  done
  return 0
}

describe() {
  "$python" - <<'PY'
import json, os, platform, subprocess, sys

def first(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []

import torch

gpus = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        gpus.append({"name": p.name, "capability": f"{p.major}.{p.minor}", "bytes": p.total_memory})
cpu = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
print(json.dumps({
    "gpus": gpus, "driver": first(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
    "nvcc": first(["nvcc", "--version"])[-1:], "torch": torch.__version__, "cuda": torch.version.cuda,
    "python": sys.version.split()[0], "cpu": cpu[:1], "cores": os.cpu_count(), "system": platform.platform(),
}, indent=2))
PY
}

build() {
  add_wheels
  cd "$project" || return 1
  node --import tsx scripts/setup.ts || return 1
  ls -l build/Release
  # Without the companion the tests would pass by the dispatcher alone, and prove less than they seem to.
  ls build/Release/torchbrush-cuda-*.so
}

check() {
  local torch built
  torch=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])') || return 1
  built=$(ls -d "$project"/build-*/Release) || return 1
  LD_LIBRARY_PATH=$torch/lib "$built/companion-check" "$(ls "$project"/build/Release/torchbrush-cuda-*.so)" cuda \
    "$torch/lib/libtorch_cuda.so"
}

# run_tests RESULT FILES…
run_tests() {
  local result=$1
  shift
  cd "$project" || return 1
  node --import tsx --test --test-concurrency=1 --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=./scripts/gpu/json-reporter.mjs --test-reporter-destination="$result" "$@"
}

model() {
  cd "$project/test/parity/python" && "$python" make_checkpoint.py full-size --form sd15 --configs "$work/configs" \
    --output "$work/sd15"
}

bench() {
  cd "$project" || return 1
  local scenarios=(${TORCHBRUSH_GPU_SCENARIOS:-unet vae text-encoder img2img-full})
  local peers=(${TORCHBRUSH_GPU_PEERS:-eager-fp16 compile-fp16})
  node --import tsx scripts/bench/index.ts --device cuda --dtype float16 --latents 64 --model "$work/sd15" \
    --python "$python" --scenario "${scenarios[@]}" --peer "${peers[@]}" --write "$out/bench"
}

part unpack unpack
[ -d "$project" ] || { say "nothing is unpacked: run the part unpack first"; exit 1; }
export PATH=$work/node/bin:$PATH
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$work/python
export TORCHBRUSH_PYTHON=$python
describe >"$out/machine.json" 2>"$out/machine.log" || say "the machine could not be described: see machine.log"
if part build build; then
  part check check
  part tests run_tests "$out/tests.json" test/gpu/*.test.ts
  if part model model; then
    TORCHBRUSH_FULL_SIZE=$work/sd15 part full run_tests "$out/full.json" test/gpu/parity.test.ts
    part bench bench
  fi
fi
"$work/node/bin/node" "$project/scripts/gpu/gather.mjs" "$out" "$here/commit.txt" >"$out/results.json" || status=1
say "see $out/results.json"
exit $status
