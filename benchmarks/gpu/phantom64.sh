#!/usr/bin/env bash
# Train the bundled weights of 64 pixels on enriched phantoms; interrupted, the same command goes on.
#   OUT=out benchmarks/gpu/phantom64.sh            the weights
#   TINY=1 benchmarks/gpu/phantom64.sh             a few steps, to see that everything runs
# What follows the name changes the configuration: benchmarks/gpu/phantom64.sh training.batch=128
set -euo pipefail
out=${OUT:-out}
changes=("out=$out/phantom-64.safetensors" "device=${DEVICE:-auto}")
if [[ -n ${TINY:-} ]]; then
  changes+=("cohort=phantom:n=48,seed=1,enriched=1" size=tiny training.steps=2 training.batch=4
    training.precision=fp32 samples=0 validation=.2)
fi
exec causalcxr radit train "$(dirname "$0")/phantom64.yaml" "${changes[@]}" "$@"
