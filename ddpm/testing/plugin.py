"""Fixtures for pytest: the checks, each of which fails the test with the mistake's name.

In your conftest.py:

    pytest_plugins = ["ddpm.testing.plugin"]

and in a test:

    def test_my_sampler(check_sampler):
        check_sampler(my_sampler, "cosine", clip=True)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CHECKS = (
    *("check_schedule", "check_forward", "check_loss", "check_weight", "check_average"),
    *("check_sampler", "check_samples", "check_guidance", "check_inversion", "check_fid"),
)


def fixture_of(name: str) -> Any:
    """A fixture that runs the check of this name, and fails with its answer."""

    def fixture() -> Callable[..., Any]:
        import ddpm.testing

        check = getattr(ddpm.testing, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            answer = check(*args, **kwargs)
            if not answer:
                pytest.fail(str(answer), pytrace=False)
            return answer

        return run

    fixture.__doc__ = f"`ddpm.testing.{name}`, which fails the test with the mistake's name."
    return pytest.fixture(fixture, name=name)


for _name in CHECKS:
    globals()[_name] = fixture_of(_name)
