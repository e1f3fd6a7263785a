"""Every error ends with the exit code and the words that were promised for it."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from headrace.cli.exits import Ended, NotConfirmed, UsageFault, end, exit_code_of
from headrace.client.errors import JobCancelled
from headrace.log.base import Fenced, Lost, Refused
from headrace.model import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageFault("no"), 2),
        (errors.BadSettings(["a"]), 2),
        (NotConfirmed("no"), 1),
        (errors.BadRequest("no"), 1),
        (errors.WrongState("no"), 1),
        (errors.Overloaded("later"), 1),
        (errors.Unauthenticated("who"), 1),
        (JobCancelled("id", "kind", ""), 1),
        (errors.UnknownJob("?"), 3),
        (errors.UnknownQueue("?"), 3),
        (errors.UnknownSession("?"), 3),
        (errors.CannotConnect("no"), 4),
        (errors.OwnerUnresponsive("no"), 4),
        (errors.OutcomeUnknown("?"), 5),
        (errors.Internal("bug"), 70),
        (errors.InvariantViolated("bug"), 70),
        (RuntimeError("bug"), 70),
        (OSError(5, "Input/output error"), 74),
        (Lost("gone"), 74),
        (Fenced("gone"), 74),
        (Refused("full"), 74),
        (errors.SyncFailed("disk"), 74),
        (errors.DiskFailed("disk"), 74),
        (errors.Locked("held"), 75),
        (errors.LogCorrupt("damage"), 78),
        (errors.FormatNewer("newer"), 78),
        (errors.UnsafeDirectory("mode"), 78),
        (KeyboardInterrupt(), 130),
        (Ended(7), 7),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_every_wire_error_has_a_code_of_the_promised_ones() -> None:
    for kind in errors.codes().values():
        assert exit_code_of(kind("x")) in (1, 3, 4, 5, 70)


def test_every_stop_error_says_its_code_and_leaves_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind in errors.StopError.__subclasses__():
        assert end(kind("what happened.", hint="What to do.")) == kind.exit_code
        assert f"headrace: {kind.stop_code}: what happened. What to do." in capsys.readouterr().err


def test_lost_log_says_the_stop_code_of_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Lost("gone")
    lost.__cause__ = errors.SyncFailed("the disk failed.")
    assert end(lost) == 74
    assert capsys.readouterr().err == "headrace: E-FSYNC: the disk failed.\n"


def test_all_faults_of_the_settings_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(errors.BadSettings(["first.", "second."])) == 2
    assert capsys.readouterr().err == "headrace: first.\nheadrace: second.\n"


def test_bug_is_one_sentence_and_a_file_that_only_its_user_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert end(_raised()) == 70

    said = capsys.readouterr().err
    assert "Traceback" not in said
    found = re.search(r"is in (\S+\.txt)", said)
    assert found is not None
    path = Path(found[1])
    assert "ZeroDivisionError" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()


def test_debug_prints_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(_raised(), debug=True) == 70
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_of_an_error_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end(errors.BadRequest("red \x1b[31m and bell \x07"))
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert r"\x1b[31m" in said


def _raised() -> BaseException:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        return error
    raise AssertionError
