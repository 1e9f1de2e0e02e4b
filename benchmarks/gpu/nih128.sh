#!/usr/bin/env bash
# Fine-tune the phantom weights of 128 pixels on NIH ChestX-ray14.
#   NIH=/where/it/is OUT=out benchmarks/gpu/nih128.sh
#   TINY=1 NIH=... benchmarks/gpu/nih128.sh        a few steps, to see that everything runs
# NIH is the folder with Data_Entry_2017*.csv and the images; START are the weights to start from.
set -euo pipefail
out=${OUT:-out}
start=${START:-$out/phantom-128.safetensors}
steps=10000 batch=64 device=${DEVICE:-auto}
if [[ -n ${TINY:-} ]]; then steps=3 batch=8; fi
mkdir -p "$out"
exec causalcxr radit train "${NIH:?set NIH to the folder of ChestX-ray14}" --graph nih \
  --out "$out/nih-128.safetensors" --weights "$start" \
  --resolution 128 --steps "$steps" --batch "$batch" --lr 0.0005 --device "$device"
