"""What a command prints for an error, and its exit code."""

import pytest

from roomkeys.errors import TransientError
from worker.app import BrokerClosed
from worker.cli.terminal.process import CommandFailed, error_lines
from worker.settings import WrongSetting


def test_wrong_settings_in_a_group_are_a_line_each_and_hide_other_errors() -> None:
    group = ExceptionGroup("", [ExceptionGroup("", [WrongSetting("A must be\nB must be")]), ValueError("noise")])
    assert error_lines(group) == (["A must be", "B must be"], 2)


def test_texts_of_this_projects_errors_are_printed() -> None:
    group = ExceptionGroup(
        "", [BrokerClosed("closed for good"), CommandFailed("no such letter"), TransientError("away")]
    )
    assert error_lines(group) == (["closed for good", "no such letter", "away"], 1)


def test_text_of_an_unexpected_error_is_not_printed() -> None:
    lines, code = error_lines(RuntimeError("key material"))
    assert code == 1
    assert "RuntimeError" in lines[0]
    assert "material" not in lines[0]


def test_unexpected_error_at_debug_level_has_a_traceback_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    try:
        raise RuntimeError(f"{'secret'} text")  # noqa: TRY301 - it needs a traceback
    except RuntimeError as error:
        lines, _ = error_lines(error)
    assert "test_process.py" in lines[0]
    assert "secret text" not in lines[0]
