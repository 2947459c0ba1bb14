"""What samplers and lists of times there are, by name and in words, for the help of the commands. JAX is not imported.

`ddpm.samplers.names` has the functions of these names.
"""

SAMPLERS = {  # network calls of N steps: N, unless said otherwise; with guidance twice as many
    "ddim": "deterministic, first order",
    "ancestral": "ddim with η = 1: Euler's step, then new noise",
    "ddpm": "the chain of the paper, variance β̃; best with all T steps",
    "ddpm_large": "the same with variance β",
    "ddpm_learned": "the same with the variance that the network predicts",
    "heun": "deterministic, second order, 2N-1 calls",
    "dpm_2": "DPM-Solver-2: deterministic, second order, 2N-1 calls",
    "dpm_2m": "DPM-Solver++(2M): deterministic, second order with a memory",
    "edm": "heun from a level with more noise, 2N-1 calls",
}

TIMES = {
    "trailing": "even, from T",
    "leading": "even, down to 1",
    "linspace": "even, from T down to 1",
    "quad": "crowded near 0, from .8 T",
    "stride": "the smallest whole stride, down to 1",
    "karras": "the noise levels of EDM, σ from 80 to .002 with ρ = 7",
    "searched": "the best for few steps of ddim on the covariance of the model's data, with a free start",
}
FEW = 10  # up to so many steps of ddim, `searched` is the default of a model that knows the covariance of its data


def words(table: dict[str, str]) -> str:
    """Join a table to one line of help."""
    return "; ".join(f"{name}: {what}" for name, what in table.items())
