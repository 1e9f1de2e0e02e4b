#!/usr/bin/env bash
# Train weights of 128 pixels on enriched phantoms; interrupted, the same command goes on.
#   OUT=out benchmarks/gpu/phantom128.sh           the weights
#   TINY=1 benchmarks/gpu/phantom128.sh            a few steps, to see that everything runs
# No more than 32,000 phantoms: the films of 32,768 are kept in memory, those of more are computed
# anew in every epoch.
set -euo pipefail
out=${OUT:-out}
n=32000 steps=20000 batch=64 device=${DEVICE:-auto}
if [[ -n ${TINY:-} ]]; then n=64 steps=3 batch=8; fi
mkdir -p "$out"
exec causalcxr radit train "phantom:n=$n,seed=1,enriched=1" --out "$out/phantom-128.safetensors" \
  --resolution 128 --steps "$steps" --batch "$batch" --device "$device"
