#!/usr/bin/env bash
# Fine-tune the phantom weights of 128 pixels on NIH ChestX-ray14 and phantoms, half of each batch.
#   NIH=/where/it/is OUT=out benchmarks/gpu/nih128.sh
#   TINY=1 NIH=... benchmarks/gpu/nih128.sh        a few steps, to check that everything works
# NIH is the folder with Data_Entry_2017*.csv and the images; START is the file of weights to start
# from (START= for none). Arguments change the configuration.
set -euo pipefail
out=${OUT:-out}
nih=${NIH:?set NIH to the folder of ChestX-ray14}
phantoms="phantom:n=100000,seed=1,randomised=1"
changes=("out=$out/nih-128.safetensors" "weights=${START-$out/phantom-128.safetensors}"
  "device=${DEVICE:-auto}")
if [[ -n ${TINY:-} ]]; then
  phantoms="phantom:n=48,seed=1,randomised=1"
  changes+=(size=tiny training.steps=2 training.batch=4 training.precision=fp32 samples=0 truth=0
    workers=0)
fi
changes+=("cohort=[{from: '$nih', share: .5}, {from: '$phantoms', share: .5}]")
exec causalcxr radit train "$(dirname "$0")/nih128.yaml" "${changes[@]}" "$@"
