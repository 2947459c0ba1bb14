"""A signal inside the block is noted, the second one interrupts, and afterwards all is as it was."""

import signal
import threading

import pytest

from ddpm.cli import start
from ddpm.training import signals


@pytest.fixture(autouse=True)
def kept():
    """Python's handlers, also where tests run in a background that ignores SIGINT; pytest's own afterwards."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for s, handler in before.items():
        signal.signal(s, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_the_second_interrupts(number, capfd):
    before = signal.getsignal(number)
    with signals.received(signal.SIGINT, signal.SIGTERM) as came:
        assert not came
        signal.raise_signal(number)
        assert came == [number] and "stopping after this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored_and_what_is_not_asked_for_stays_as_it_is():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a shell has put into the background
    before = signal.getsignal(signal.SIGTERM)
    with signals.received(signal.SIGINT) as came:
        signal.raise_signal(signal.SIGINT)
        assert not came and signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_changes():
    seen = []

    def work():
        with signals.received(signal.SIGINT) as came:
            seen.append((signal.getsignal(signal.SIGINT), came))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGINT), [])]


@pytest.mark.parametrize(
    "error, status", [(KeyboardInterrupt(), 130), (signals.Stopped(signal.SIGTERM), 143), (signals.Stopped(), 130)]
)
def test_the_exit_status_says_which_it_was(monkeypatch, error, status):
    def run(command):
        raise error

    monkeypatch.setattr(start, "run", run)
    assert start.main(["info"]) == status
