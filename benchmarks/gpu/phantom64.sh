#!/usr/bin/env bash
# Train the bundled weights of 64 pixels on enriched phantoms; interrupted, the same command goes on.
#   OUT=out benchmarks/gpu/phantom64.sh            the weights
#   TINY=1 benchmarks/gpu/phantom64.sh             a few steps, to see that everything runs
set -euo pipefail
out=${OUT:-out}
n=96000 steps=40000 batch=64 device=${DEVICE:-auto}
if [[ -n ${TINY:-} ]]; then n=64 steps=3 batch=8; fi
mkdir -p "$out"
exec causalcxr radit train "phantom:n=$n,seed=1,enriched=1" --out "$out/phantom-64.safetensors" \
  --resolution 64 --steps "$steps" --batch "$batch" --device "$device"
