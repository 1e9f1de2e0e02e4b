#!/usr/bin/env bash
# Train the bundled weights of 64 pixels: first on phantoms as they come, then on an enriched cohort,
# in which rare findings are frequent. Interrupted, the same command goes on.
#   OUT=out benchmarks/gpu/phantom64.sh            the weights
#   TINY=1 benchmarks/gpu/phantom64.sh             a few steps, to see that everything runs
set -euo pipefail
out=${OUT:-out}
n=48000 first=11000 second=6500 batch=32 device=${DEVICE:-auto}
if [[ -n ${TINY:-} ]]; then n=64 first=3 second=3 batch=8; fi
mkdir -p "$out"
train=(causalcxr radit train --resolution 64 --batch "$batch" --device "$device")
"${train[@]}" "phantom:n=$n,seed=1" --out "$out/phantom-64-first.safetensors" --steps "$first"
"${train[@]}" "phantom:n=$n,seed=2,enriched=1" --out "$out/phantom-64.safetensors" \
  --weights "$out/phantom-64-first.safetensors" --steps "$second"
