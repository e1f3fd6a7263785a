"""What is printed, and what is asked, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import sys

import pytest

from headrace.cli import output
from headrace.cli.exits import NotConfirmed, UsageFault


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sit_down(monkeypatch: pytest.MonkeyPatch, typed: str = "") -> Terminal:
    """Somebody is at the terminal and has typed this; returns what they see."""
    seen = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", seen)
    return seen


def test_ids_stay_whole_where_no_terminal_says_how_wide_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = ("0190f3a2-7b1c-7def-8123-456789abcdef", "x" * 60, 1)
    output.print_table(("job_id", "name", "count"), [row], "none")
    assert row[0] in capsys.readouterr().out.splitlines()[1]


def test_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a",), [], "No jobs.")
    assert capsys.readouterr().out == "No jobs.\n"


def test_control_characters_in_a_cell_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("kind",), [("evil\x1b[2J",)], "none")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"evil\x1b[2J" in printed


def test_markup_of_a_cell_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("kind",), [("[red]not markup[/red]",)], "none")
    assert "[red]not markup[/red]" in capsys.readouterr().out


def test_json_is_one_line_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": [1, "é"]})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"a": [1, "é"]}


@pytest.mark.parametrize("typed", ["y\n", "Yes\n"])
def test_person_who_says_yes_is_believed(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch, typed)
    output.confirm("All will be deleted", yes=False)
    assert seen.getvalue() == "All will be deleted. Go on? [y/N] "


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_anything_else_is_no(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sit_down(monkeypatch, typed)
    with pytest.raises(NotConfirmed):
        output.confirm("All will be deleted", yes=False)


def test_the_number_must_be_typed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sit_down(monkeypatch, "17\n16\n")
    output.confirm_by_typing("17 jobs are affected", "17", given=None)
    with pytest.raises(NotConfirmed):
        output.confirm_by_typing("17 jobs are affected", "17", given=None)


def test_number_given_as_an_option_must_be_the_right_one() -> None:
    output.confirm_by_typing("17 jobs are affected", "17", given="17")
    with pytest.raises(UsageFault, match="given is 16, not 17"):
        output.confirm_by_typing("17 jobs are affected", "17", given="16")


def test_without_a_person_and_without_an_option_nothing_happens() -> None:
    with pytest.raises(UsageFault, match="--accept-loss 17"):
        output.confirm_by_typing("17 jobs are affected", "17", given=None)


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("copying", 10) as advance:
        advance(5)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch)
    with output.progress("copying", 10) as advance:
        advance(5, 20)
    assert "5/20" in seen.getvalue()
