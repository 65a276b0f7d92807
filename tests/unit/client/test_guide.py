"""The tables of docs/client.md agree with the code."""

import re
from dataclasses import fields
from pathlib import Path

import roomkeys.client
from roomkeys.client import ClientLimits, KeyMissing, RoomKeysError

GUIDE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table rows below a heading whose first cell is code."""
    section = re.split(r"^#+ ", GUIDE.split(f"### {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_guide_lists_every_limit_with_its_default() -> None:
    listed = {name: float(default) for name, default, _ in rows("Limits") if name != "ClientLimits"}
    assert listed == {field.name: field.default for field in fields(ClientLimits)}


def test_the_guide_lists_every_error_with_its_reason() -> None:
    exported = [getattr(roomkeys.client, name) for name in roomkeys.client.__all__]
    errors = [item for item in exported if isinstance(item, type) and issubclass(item, RoomKeysError)]
    expected = {
        error.__name__: error.reason if issubclass(error, KeyMissing) and error is not KeyMissing else ""
        for error in errors
        if error is not RoomKeysError
    }
    assert {name: reason for name, reason, _ in rows("Errors")} == expected
