"""The losses of models of few steps, by name and in words. JAX is not imported.

`ddpm.training.few_steps` has the functions of these names.
"""

FEW_STEPS = {
    "meanflow": "average velocities between two times",
    "shortcut": "a jump of 2d agrees with two jumps of d",
    "consistency": "each point and a point nearer to the data, of the same noise, have one end",
    "consistency_distillation": "the same, where the nearer point is by a step of a teacher",
    "progressive": "one DDIM step for two of a teacher",
    "guided": "a network that is told the guidance scale, for two calls of a teacher",
    "reflow": "the velocity between noise and what a teacher makes of it",
}
TAUGHT = ("consistency_distillation", "progressive", "guided", "reflow")  # these learn from a teacher
NUMBERED = ("meanflow", "shortcut", "guided")  # their networks are told one more number: t - r, d, or the scale
ON_A_LINE = ("meanflow", "shortcut", "consistency", "consistency_distillation", "reflow")  # flows of the linear path
OWN_STEPS = ("meanflow", "shortcut", "consistency", "consistency_distillation", "progressive")  # a sampler of their own
GUIDABLE = ("meanflow", "shortcut", "consistency_distillation", "progressive", "reflow")  # guidance can be built in
MOST_SCALE = 4.0  # guided: the scales 1…4 are learned
