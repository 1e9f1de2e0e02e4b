#!/usr/bin/env bash
# Shared by phantom64.sh and phantom128.sh.
#   train_phantom.sh CONFIGURATION WEIGHTS [KEY=VALUE ...]
set -euo pipefail
configuration="$(dirname "$0")/$1.yaml"
changes=("out=${OUT:-out}/$2.safetensors" "device=${DEVICE:-auto}")
shift 2
if [[ -n ${TINY:-} ]]; then
  changes+=("cohort=phantom:n=48,seed=1,randomised=1" size=tiny training.steps=2 training.batch=4
    training.precision=fp32 samples=0 truth=0 workers=0 validation=.2)
fi
exec causalcxr radit train "$configuration" "${changes[@]}" "$@"
