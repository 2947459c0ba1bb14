"""Progressive distillation: a student makes in one DDIM step what its teacher makes in two.   [Salimans and Ho 2022]

    x_m, x_s = two DDIM steps of the teacher from x_t        x̃ = (x_s - (b_s/b_t) x_t)/(a_s - (b_s/b_t) a_t)
    L = E max(SNR_t, 1) ‖x̃ - x̂0(x_t)‖²,   a = √ᾱ, b = √(1-ᾱ)                                                  [Alg. 2]

x̃ is the x̂0 with which one DDIM step lands on x_s. Repeated, N steps become N/2, N/4 … 1. With labels (c, s) and the
student of `ddpm.losses.distillation` as the first teacher it is the second stage of guided distillation
[Meng et al. 2023]. Teacher and student have one schedule; the student has every second time of the teacher (`halved`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps
from ddpm.forward import at, x0_and_eps
from ddpm.loss import per_image
from ddpm.sample import ddim_step
from ddpm.schedule import Schedule
from ddpm.tools import check


def progressive_target(
    teacher: Eps, schedule: Schedule, x_t: jax.Array, t: Any, m: Any, s: Any, c: Any = None
) -> jax.Array:
    """x̃, the x̂0 of one DDIM step t → s that lands where the teacher's two, t → m → s, do: like x_t

    teacher: ε̂, guided or not;  t > m > s ≥ 0: () or (B,).   [Salimans and Ho 2022, Alg. 2; App. G]
    """
    check.falling(t, m)
    check.falling(m, s)
    step, key = ddim_step(teacher, schedule, c), jax.random.key(0)  # without noise, the key is not used
    x_s = step(key, step(key, x_t, t, m), m, s)
    a_t, a_s = (jnp.sqrt(at(schedule.alpha_bar, i, x_t)) for i in (t, s))
    b_t, b_s = (at(schedule.std, i, x_t) for i in (t, s))
    return jax.lax.stop_gradient((x_s - b_s / b_t * x_t) / (a_s - b_s / b_t * a_t))


def progressive_loss(
    student: Eps, teacher: Eps, schedule: Schedule, x_t: jax.Array, t: Any, m: Any, s: Any, c: Any = None
) -> jax.Array:
    """max(SNR_t, 1) ‖x̃ - x̂0_student(x_t, t)‖²/D: (B,)   [Salimans and Ho 2022, Sec. 4: truncated SNR]"""
    target = progressive_target(teacher, schedule, x_t, t, m, s, c)
    x0, _ = x0_and_eps(student, schedule, x_t, t, c)
    snr = schedule.alpha_bar / jnp.maximum(schedule.std, 1e-12) ** 2
    return jnp.broadcast_to(jnp.maximum(snr[t], 1), x_t.shape[:1]) * per_image((target - x0) ** 2)


def halved(times: Any) -> np.ndarray:
    """Every second time of a list from noise to 0: the student's. An odd number of steps is refused."""
    times = np.asarray(times)
    if times.ndim != 1 or len(times) < 3 or len(times) % 2 == 0:
        raise ValueError(f"times has {max(0, times.size - 1)} steps; a student wants an even number of at least 2")
    return times[::2]
