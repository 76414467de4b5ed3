#!/usr/bin/env bash
# Builds torchbrush against this machine's PyTorch, runs the GPU tests and the benchmarks, and writes what
# came of it as JSON. Needs a Python with torch (for CUDA), nvcc, cmake, make or ninja, and a C++ compiler;
# no network and no Node.
#   bash run.sh [--out DIR] [--parts PART,PART…] [--limit SECONDS]
# Parts can be run one by one, each needs those that made what it uses; none takes longer than the limit.
# What a part cannot do here it says, and the next one follows. The exit status is 0 only if all were done.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=unpack,build,check,tests,model,full,unet,img2img,loop,memory,networks,model-xl,unet-xl,img2img-xl,loop-xl,memory-xl
out=$here/results
parts=$all
limit=540
body=
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --parts) parts=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    # One part's work, in the process that part() starts under the limit.
    --body) body=$2; shift 2 ;;
    *) echo "usage: bash run.sh [--out DIR] [--parts $all] [--limit SECONDS]" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$here/work
project=$work/torchbrush
python=${TORCHBRUSH_PYTHON:-python3}
export PATH=$work/node/bin:$PATH
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$work/python
export TORCHBRUSH_PYTHON=$python
# What torch.compile has compiled once serves the next part, and the next try after a time limit.
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton
status=0

say() { echo "gpu: $*" >&2; }

# record NAME RESULT EXIT SECONDS REASON
record() {
  printf '{"part": "%s", "result": "%s", "exit": %d, "seconds": %d, "reason": "%s"}\n' "$@" >"$out/$1.part.json"
  [ "$2" = ok ] || status=1
  say "$1: $2${5:+: $5}"
}

# Why a part cannot be done here, or nothing.
lacking() {
  local needs
  case $1 in
    unpack) needs= ;;
    build) needs=sources ;;
    check) needs="build companion gpu" ;;
    tests) needs="build gpu" ;;
    model | model-xl) needs=sources ;;
    full) needs="build gpu sd15" ;;
    unet | img2img | loop | memory | networks) needs="build gpu sd15" ;;
    *-xl) needs="build gpu sdxl" ;;
  esac
  for need in $needs; do
    case $need in
      sources) [ -d "$project" ] || { echo "nothing is unpacked: run the part unpack first"; return; } ;;
      build) [ -e "$project/build/Release/torchbrush.node" ] || { echo "nothing is built: run the part build first"; return; } ;;
      companion) [ -n "$(companion)" ] || { echo "there is no CUDA companion: see build.log"; return; } ;;
      gpu) has_gpu || { echo "needs a GPU, and torch finds none"; return; } ;;
      *) [ -d "$work/$need" ] || { echo "there is no model in work/$need: run its part first"; return; } ;;
    esac
  done
}

has_gpu() { [ "$gpu" = yes ]; }

companion() { find "$project/build/Release" -name 'torchbrush-cuda-*.so' 2>/dev/null | head -n 1; }

# part NAME: does it under the limit, keeps its output and how it ended.
part() {
  local name=$1 began code reason result=ok
  reason=$(lacking "$name")
  if [ -n "$reason" ]; then
    record "$name" skipped 0 0 "$reason"
    return
  fi
  say "$name"
  began=$(date +%s)
  timeout --kill-after=10 "$limit" bash "${BASH_SOURCE[0]}" --out "$out" --limit "$limit" --body "$name" >"$out/$name.log" 2>&1
  code=$?
  if [ $code -eq 124 ] || [ $code -eq 137 ]; then
    result="timed out" reason="it took longer than $limit s"
  elif [ $code -ne 0 ]; then
    result=failed reason="see $name.log"
  fi
  record "$name" "$result" "$code" $(($(date +%s) - began)) "$reason"
  [ $code -eq 0 ] || tail -n 20 "$out/$name.log" >&2
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
  [ -n "$(companion)" ] && return
  echo "No CUDA companion was built: that takes a torch for CUDA, and nvcc."
  # Where there is a GPU, the tests would pass by the dispatcher alone, and prove less than they seem to.
  ! has_gpu
}

check() {
  local torch built
  torch=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])') || return 1
  built=$(find "$project" -maxdepth 2 -path '*/build-*/Release' | head -n 1)
  LD_LIBRARY_PATH=$torch/lib "$built/companion-check" "$(companion)" cuda "$torch/lib/libtorch_cuda.so"
}

# run_tests RESULT [FILE]: all of test/gpu unless a file is named.
run_tests() {
  local result=$1
  cd "$project" || return 1
  local files=(test/gpu/*.test.ts)
  [ $# -eq 1 ] || files=("$2")
  node --import tsx --test --test-concurrency=1 --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=./scripts/gpu/json-reporter.mjs --test-reporter-destination="$result" "${files[@]}"
}

# model FORM FOLDER OPTIONS…
model() {
  local form=$1 folder=$2
  shift 2
  [ -d "$work/configs/$form" ] || { echo "the pack has no configurations of $form"; return 1; }
  cd "$project/test/parity/python" || return 1
  "$python" make_checkpoint.py full-size --form "$form" --configs "$work/configs" --output "$work/$folder" "$@"
}

# bench NAME OPTIONS…: a peer that compiles for too long is left out, before the part's own limit.
bench() {
  local name=$1
  shift
  cd "$project" || return 1
  node --import tsx scripts/bench/index.ts --device cuda --python "$python" --peer-limit $((limit * 3 / 5)) \
    --write "$out/$name" "$@"
}

if [ -n "$body" ]; then
  small=(--model "$work/sd15" --latents 64)
  large=(--model "$work/sdxl" --variant fp16 --latents 128)
  case $body in
    unpack) unpack ;;
    build) build ;;
    check) check ;;
    tests) run_tests "$out/tests.json" ;;
    model) model sd15 sd15 ;;
    model-xl) model sdxl-base sdxl --half ;;
    full) TORCHBRUSH_FULL_SIZE=$work/sd15 run_tests "$out/full.json" test/gpu/parity.test.ts ;;
    unet) bench unet "${small[@]}" --scenario unet --check --peer eager eager-fp16 compile-fp16 ;;
    unet-xl) bench unet-xl "${large[@]}" --scenario unet --peer eager-fp16 compile-fp16 ;;
    img2img) bench img2img "${small[@]}" --scenario img2img-full --peer eager-fp16 compile-fp16 ;;
    img2img-xl) bench img2img-xl "${large[@]}" --scenario img2img-full --rounds 3 --peer eager-fp16 compile-fp16 ;;
    loop) bench loop "${small[@]}" --scenario loop-wall --peer none ;;
    loop-xl) bench loop-xl "${large[@]}" --scenario loop-wall --peer none ;;
    memory) bench memory "${small[@]}" --scenario memory --peer eager-fp16 ;;
    memory-xl) bench memory-xl "${large[@]}" --scenario memory --peer eager-fp16 ;;
    networks) bench networks "${small[@]}" --scenario vae text-encoder --peer eager-fp16 ;;
  esac
  exit
fi

for name in ${parts//,/ }; do
  case ",$all," in
    *",$name,"*) ;;
    *) echo "There is no part $name. Known are: $all" >&2; exit 2 ;;
  esac
done
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null && gpu=yes || gpu=no
export gpu
for name in ${parts//,/ }; do part "$name"; done
describe >"$out/machine.json" 2>"$out/machine.log" || say "the machine could not be described: see machine.log"
[ -d "$project" ] || { say "nothing is unpacked: run the part unpack first"; exit 1; }
node "$project/scripts/gpu/gather.mjs" "$out" "$here/commit.txt" >"$out/results.json" || status=1
say "see $out/results.json"
exit $status
