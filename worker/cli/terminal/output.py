"""Output of a command: colours and tables on a terminal; plain lines without a terminal or with NO_COLOR.

Everything that prints raises `OutputClosed` once nobody reads the output any more.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH: Final = 100_000
"""Columns to assume without a terminal, so that nothing is cut or wrapped."""


class OutputClosed(Exception):
    """The program that reads the output, such as `head`, has ended: there is nobody to print for."""


class _Screen(Console):
    """A console that raises `OutputClosed`, where Rich would exit in the middle of whatever is going on."""

    def on_broken_pipe(self) -> None:
        raise OutputClosed from None


_C = TypeVar("_C", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """Return an epilog for `--help` with examples of a command."""
    return "\n".join(["\b", f"Example{'s' if len(lines) > 1 else ''}:", *(f"  {line}" for line in lines)])


def json_option(command: _C) -> _C:
    """Add the option `--json`, which sets the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def _is_plain() -> bool:
    return bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()


def _screen() -> Console:
    if _is_plain():
        return _Screen(color_system=None, highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
    return _Screen(highlight=False, markup=False, emoji=False)


def show(*texts: str | tuple[str, str]) -> None:
    """Print texts as one line; a pair is a text and its style. Markup in texts has no effect."""
    _screen().print(Text.assemble(*texts), soft_wrap=True)


def show_json(document: object) -> None:
    """Print a document as one line of JSON."""
    try:
        click.echo(orjson.dumps(document).decode())
    except BrokenPipeError:
        raise OutputClosed from None


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns, with unprintable characters escaped."""
    table = Table(*columns, box=None if _is_plain() else SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    _screen().print(table)


def safe(text: object, *, lines: bool = False) -> str:
    """Return the text with unprintable characters escaped (they could move a cursor); with `lines`, line ends stay."""
    return "".join(
        character if character.isprintable() or (lines and character == "\n") else ascii(character)[1:-1]
        for character in str(text)
    )
