#!/usr/bin/env bash
# Train weights of 64 pixels on randomised phantoms; the same command resumes.
#   OUT=out benchmarks/gpu/phantom64.sh            the weights
#   TINY=1 benchmarks/gpu/phantom64.sh             a few steps, to check that everything works
# Arguments change the configuration: benchmarks/gpu/phantom64.sh training.batch=128
exec "$(dirname "$0")/train_phantom.sh" phantom64 phantom-64 "$@"
