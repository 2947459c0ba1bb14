#!/usr/bin/env bash
# The reference of the digits preset: five seeds, a minute or two each on two CPU cores, and the band between them.
#   bash experiments/reference_runs/digits.sh
set -euo pipefail
for seed in 0 1 2 4 5; do
    ddpm train --data digits --preset digits --seed "$seed" --name "reference-digits-$seed" --log-every 10 --sample-every 0
done
python -m experiments.reference_runs.collect runs/reference-digits-{0,1,2,4,5} --name digits
