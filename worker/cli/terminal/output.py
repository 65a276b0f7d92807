"""What a command shows: colours and tables on a terminal, plain lines without one or with NO_COLOR."""

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

_WIDE: Final = 100_000
"""Columns without a terminal: nothing is cut or wrapped."""

_C = TypeVar("_C", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """Return an epilog for `--help` that shows how a command is used."""
    return "\n".join(["\b", f"Example{'s' if len(lines) > 1 else ''}:", *(f"  {line}" for line in lines)])


def json_option(command: _C) -> _C:
    """Add `--json`, passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def is_plain() -> bool:
    """Tell whether to leave out colours and lines."""
    return bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()


def screen() -> Console:
    """Return a console for standard output."""
    if is_plain():
        return Console(color_system=None, highlight=False, markup=False, emoji=False, width=_WIDE)
    return Console(highlight=False, markup=False, emoji=False)


def show(*parts: str | tuple[str, str]) -> None:
    """Print a line of texts, each with a style where it is a pair. The texts are shown as they are."""
    screen().print(Text.assemble(*parts), soft_wrap=True)


def show_json(document: object) -> None:
    """Print a document as one line of JSON."""
    click.echo(orjson.dumps(document).decode())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns; whatever cannot be printed is spelled out."""
    table = Table(*columns, box=None if is_plain() else SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    screen().print(table)


def safe(text: object, *, lines: bool = False) -> str:
    """Return the text with every character spelled out that could move a terminal's cursor or worse.

    `lines` keeps line ends.
    """
    return "".join(
        character if character.isprintable() or (lines and character == "\n") else ascii(character)[1:-1]
        for character in str(text)
    )
