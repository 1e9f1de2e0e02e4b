#!/usr/bin/env bash
# Fine-tune the phantom weights of 128 pixels on NIH ChestX-ray14.
#   NIH=/where/it/is OUT=out benchmarks/gpu/nih128.sh
#   TINY=1 NIH=... benchmarks/gpu/nih128.sh        a few steps, to check that everything works
# NIH is the folder with Data_Entry_2017*.csv and the images; START is the file of weights to start
# from (START= for none). Arguments change the configuration.
set -euo pipefail
out=${OUT:-out}
changes=("cohort=${NIH:?set NIH to the folder of ChestX-ray14}" "out=$out/nih-128.safetensors"
  "weights=${START-$out/phantom-128.safetensors}" "device=${DEVICE:-auto}")
if [[ -n ${TINY:-} ]]; then
  changes+=(size=tiny training.steps=2 training.batch=4 training.precision=fp32 samples=0)
fi
exec causalcxr radit train "$(dirname "$0")/nih128.yaml" "${changes[@]}" "$@"
