"""`ddpm course …`: the commands of learners and of instructors.

They are parsed apart from the other commands of `ddpm`, so that `ddpm course status` answers in a fifth of a second.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from ddpm.course import state
from ddpm.course.options import (
    COMMANDS,
    Check,
    Export,
    Grade,
    Hint,
    Init,
    Next,
    Report,
    Reset,
    Solution,
    Status,
    Watch,
)
from ddpm.tools.terminal import exit_status
from ddpm.tools.xla import keep_small_programs


def main(args: list[str]) -> int:
    """Run one command of the course; exit status 1 if a check failed, 2 for one line of error."""
    if not args:  # the state of the course, or an overview of the commands
        args = ["status" if state.here() else "--help"]
    command = tyro.cli(
        COMMANDS,
        prog="ddpm course",
        description="The course: lessons with exercises that check themselves. Begin with `ddpm course init DIR`; "
        "then, in DIR: `next`, write the line, `check`. A wrong answer gets a sentence; `hint` tells more.",
        args=args,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        return 0 if run(command) in (None, True) else 1
    except BrokenPipeError:
        raise
    except Exception as e:
        return exit_status(e)
    except KeyboardInterrupt:
        return 130


def run(command: object) -> bool | None:
    """Run one parsed command."""
    from ddpm.course import commands

    # Commands that need no course folder
    match command:
        case Init(folder, notebooks, source):
            commands.init(folder or state.here() or Path("course"), notebooks, source)
            return None
        case Grade():
            from ddpm.course import grade

            grade.main(command)
            return None
        case Report(scores):
            from ddpm.course import report

            report.main(scores)
            return None
        case Export():
            from ddpm.course import export

            export.main(command)
            return None
    # The learner's commands, in the folder of the course
    folder = state.find(Path())
    match command:
        case Status():
            commands.status(folder)
        case Next():
            commands.show_next(folder)
        case Check(numbers, show):
            keep_small_programs()
            return commands.check(folder, numbers, show)
        case Hint(number):
            commands.hint(folder, number)
        case Solution(number, give_up):
            commands.solution(folder, number, give_up)
        case Watch():
            keep_small_programs()
            commands.watch(folder)
        case Reset(number):
            commands.reset(folder, number)
    return None
