#!/usr/bin/env bash
# Ho et al.'s CIFAR-10 network (35,746,307 parameters) on a GPU, in pieces of at most 9 minutes: exit status 75 means
# "there is more, run me again".
#
#   until bash experiments/reference_runs/gpu_cifar10.sh; do [ $? -eq 75 ] || break; done
#
# As in the paper, App. B: linear schedule, T = 1000, Adam 2e-4, batch 128, warm-up 5,000 steps, EMA .9999, flips,
# dropout .1, no classes, constant learning rate, 800,000 steps. STEPS=100000 stops earlier (and can be raised later).
set -euo pipefail
source "$(dirname "$0")/gpu_piece.sh"
name=cifar10_ho
piece "$name" --data cifar10 --preset cifar10 --steps "${STEPS:-800000}" --batch 128 --lr 2e-4 --warmup 5000 --decay 0 \
    --ema 0.9999 --schedule linear_ho --flip --dropout 0.1 --no-conditional \
    --log-every 100 --save-every 1000 --sample-every 25000 ${TRAIN_OPTIONS:-}
python -m experiments.reference_runs.collect "runs/$name" --name "$name"
