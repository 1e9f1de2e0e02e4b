#!/usr/bin/env bash
# Train weights of 128 pixels on randomised phantoms; the same command resumes.
#   OUT=out benchmarks/gpu/phantom128.sh           the weights
#   TINY=1 benchmarks/gpu/phantom128.sh            a few steps, to check that everything works
# Arguments change the configuration: benchmarks/gpu/phantom128.sh size=B
exec "$(dirname "$0")/train_phantom.sh" phantom128 phantom-128 "$@"
