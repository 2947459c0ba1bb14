#!/usr/bin/env bash
# The reference of the digits preset: six seeds, about two minutes each on two CPU cores, and the band between them.
#   bash experiments/reference_runs/digits.sh
set -euo pipefail
for seed in 0 1 2 3 4 5; do
    ddpm train --data digits --preset digits --seed "$seed" --name "reference-digits-$seed" --log-every 10 --sample-every 0
done
python -m experiments.reference_runs.collect runs/reference-digits-{0..5} --name digits
