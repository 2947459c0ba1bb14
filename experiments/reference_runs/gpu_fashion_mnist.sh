#!/usr/bin/env bash
# Fashion-MNIST on a GPU, in pieces of at most 9 minutes: exit status 75 means "there is more, run me again".
#
#   bash experiments/reference_runs/gpu_fashion_mnist.sh medium     channels 64, 6,469,889 parameters and the class table
#   bash experiments/reference_runs/gpu_fashion_mnist.sh large      channels 128, 25,833,985 and the class table
#   until bash experiments/reference_runs/gpu_fashion_mnist.sh medium; do [ $? -eq 75 ] || break; done
#
# Ho et al.'s optimiser (Adam, 2e-4, EMA .9999, batch 128), cosine schedule.
set -euo pipefail
preset="${1:-medium}"
case "$preset" in
    medium) steps=40000 ;;
    large)  steps=60000 ;;
    *)      echo "give medium or large, not $preset" >&2; exit 2 ;;
esac
source "$(dirname "$0")/gpu_piece.sh"
name="fashion_mnist_$preset"
piece "$name" --data fashion_mnist --preset "$preset" --steps "$steps" --batch 128 --lr 2e-4 --warmup 1000 \
    --ema 0.9999 --log-every 100 --save-every 1000 --sample-every 10000 ${TRAIN_OPTIONS:-}
python -m experiments.reference_runs.collect "runs/$name" --name "$name"
