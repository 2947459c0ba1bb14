#!/usr/bin/env bash
# The CPU presets: Fashion-MNIST (an hour and a half on one core) or CIFAR-10 (two and a half; raise --steps for
# better images). Interrupt it when you like; the same command resumes.
#   bash experiments/reference_runs/cpu.sh fashion_mnist        bash experiments/reference_runs/cpu.sh cifar10
set -euo pipefail
case "${1:-fashion_mnist}" in
    fashion_mnist) ddpm train --data fashion_mnist --name fashion_mnist --steps 14500 --sample-every 2000 ;;
    cifar10)       ddpm train --data cifar10 --preset cifar10_cpu --name cifar10 --steps 9000 --predict gaussian --flip --save-every 250 --sample-every 2000 ;;
    *)             echo "give fashion_mnist or cifar10" >&2; exit 2 ;;
esac
python -m experiments.reference_runs.collect "runs/${1:-fashion_mnist}" --name "${1:-fashion_mnist}"
