"""Output for people: escaped characters, and plain lines without a terminal."""

import pytest

from worker.cli.terminal.output import safe, show, show_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("\x1b[2Jx", "\\x1b[2Jx"), ("a\rb", "a\\rb"), ("a\u202eb", "a\\u202eb"), (7, "7")],
)
def test_characters_that_could_move_the_cursor_are_escaped(text: object, shown: str) -> None:
    assert safe(text) == shown


def test_line_ends_are_kept_on_request() -> None:
    assert safe("a\nb\x07", lines=True) == "a\nb\\x07"


def test_output_without_a_terminal_has_no_colours_is_not_cut_and_shows_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(("[bold]" + "x" * 300, "red"), " :smile:")
    show_table(["one", "two"], [["a", "[i]" + "y" * 300]])
    out = capsys.readouterr().out
    assert out.splitlines() == ["[bold]" + "x" * 300 + " :smile:", "one  two" + " " * 300, "a    [i]" + "y" * 300]
