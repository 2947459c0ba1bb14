"""Times above those of a rule, as imported models visit them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm.sample import Sampling
from ddpm.schedule import Schedule


@dataclass(frozen=True)
class OffsetSampling(Sampling):
    """Sampling at times that lie `offset` above those of the rule; the last, 0, stays."""

    offset: int = 0

    def times(self, schedule: Schedule) -> np.ndarray:
        """The times from noise down to 0, (steps+1,)"""
        times = super().times(schedule)
        times = np.append(times[:-1] + self.offset, times[-1:])
        if times[0] > schedule.T:
            raise ValueError(
                f"steps is {len(times) - 1}; the offset {self.offset} of this model's times then leads above "
                f"T = {schedule.T}. Give fewer steps, or a rule such as trailing"
            )
        return times
