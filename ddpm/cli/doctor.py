"""`ddpm doctor`: a report of conventions and mistakes about somebody's function or scheduler."""

from __future__ import annotations

import json
from typing import Any

from ddpm.cli import theirs
from ddpm.testing import examine
from ddpm.testing.calling import Convention
from ddpm.tools import check


def run(command: theirs.Doctor) -> None:
    """Load what is named, check it, and print what was found."""
    check.whole("steps", command.steps, 2, 1000)
    thing = examine.load(command.what)
    given = settings(command)
    if examine.is_scheduler(thing):
        answers = examine.examine_scheduler(thing, given, command.steps, command.eta)
    else:
        if given:
            raise ValueError(f"{command.what} is no scheduler of diffusers; leave out --set and --timestep-spacing")
        if not callable(thing):
            raise ValueError(f"{command.what} is a {type(thing).__name__}; give a function or a scheduler's class")
        convention = Convention(command.arrays, command.first_time, command.channels_first, command.seconds)
        answers = examine.examine_function(
            thing, command.kind, command.schedule, command.steps, command.eta, command.clip, convention
        )
    print(f"{command.what}\n")
    print(examine.report(answers))


def settings(command: theirs.Doctor) -> dict[str, Any]:
    """The options of a scheduler: NAME=VALUE with values as in JSON, or words."""
    out: dict[str, Any] = {}
    for text in command.set:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--set {text}: give NAME=VALUE, such as clip_sample=false")
        try:
            out[name] = json.loads(value.lower() if value in ("True", "False") else value)
        except json.JSONDecodeError:
            out[name] = value
    return out | ({"timestep_spacing": command.timestep_spacing} if command.timestep_spacing else {})
