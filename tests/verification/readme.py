"""Writes the tables of the README: `python -m tests.verification.readme`. Tests fail if they drift."""

import sys
from pathlib import Path
from typing import Final

from tests.verification.invariants import Invariant
from tests.verification.model.search import Found, search
from tests.verification.model.table import NEEDED, SPARE, TABLE, TableRow
from tests.verification.mutations.table import MUTATIONS
from tests.verification.oracle.judge import CHECKS

README: Final = Path(__file__).parent / "README.md"

OTHER_TESTS: Final = {
    Invariant.ISOLATION: (
        "tests/faults/database/test_set_aside.py",
        "tests/load/test_backlog.py",
        "tests/load/test_large_room.py",
    ),
    Invariant.BOUNDED: ("tests/load",),
    Invariant.NO_KEY_LEAKS: ("tests/integration/keys/test_secrets.py",),
    Invariant.NOTHING_UNCHECKED: ("tests/unit/messages/test_frame.py", "tests/unit/worker/test_fanout.py"),
}
"""Tests of invariants that model and oracle do not check, or not completely."""


def invariants() -> str:
    """Return the table of invariants, with what checks each."""
    head = "| invariant | checks of the oracle | mutations | rules of the model | other tests |"
    return "\n".join([head, "|---|---|---|---|---|", *map(_invariant_line, Invariant)])


def _invariant_line(invariant: Invariant) -> str:
    checks = [check for check in CHECKS if check.invariant is invariant]
    names = {check.name for check in checks}
    mutations = [one.name for one in MUTATIONS if one.found_by.__name__ in names]
    rules = [f"`{row.rule.name}`" for row in TABLE if row.invariant is invariant]
    others = [f"`{path}`" for path in OTHER_TESTS.get(invariant, ())]
    cells = ([f"`{check.name}`" for check in checks], mutations, rules, others)
    columns = " | ".join("<br>".join(cell) for cell in cells)
    return f"| {invariant.value}. {invariant.title} | {columns} |"


def rules() -> str:
    """Return the table of rules of the model, with the counterexample that a search finds without each."""
    lines = [rule_line(row, counterexample(row, search(row.scenario, {row.rule}))) for row in TABLE]
    head = "| rule | what it stands for | in the worker | without it |\n|---|---|---|---|"
    return "\n".join([rules_heading(), "", head, *lines])


def rules_heading() -> str:
    """Return how many rules there are."""
    return (
        f"The model has {len(TABLE)} rules, and a search can leave out any of them.\n"
        f"Without one of {len(NEEDED)} rules it finds a counterexample; for the other {len(SPARE)} none is known."
    )


def rule_line(row: TableRow, broken: str) -> str:
    """Return the line of a rule."""
    code = "<br>".join(f"`{_file(target)}`" for target in row.code)
    return f"| `{row.rule.name}` | {row.demand} ({row.design}) | {code} | {row.rule} {broken} |"


def counterexample(row: TableRow, found: Found) -> str:
    """Return what a search without the rule has found."""
    if found.violation is None:
        return "No counterexample is known."
    return f"With *{row.scenario}*, step {len(found.steps) + 1} breaks {found.violation}."


def _file(target: str) -> str:
    """Return `module:name` as the path of the file and the name."""
    module, _, name = target.partition(":")
    return f"{module.replace('.', '/')}.py: {name}"


def with_block(page: str, name: str, text: str) -> str:
    """Return a page with the text between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no marks for {name}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> int:
    """Write the tables."""
    page = with_block(README.read_text(), "invariants", invariants())
    README.write_text(with_block(page, "rules", rules()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
