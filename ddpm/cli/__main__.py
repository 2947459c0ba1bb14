"""`python -m ddpm.cli`: the command `ddpm`."""

import sys

from ddpm.cli.start import entry

sys.exit(entry())
