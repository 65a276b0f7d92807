"""The table of a soak: what it counts, and where it is written."""

from collections import Counter
from pathlib import Path

import pytest

from tests.load.soak.rounds import Outcome, round_of
from tests.load.soak.table import BEGIN, END, Totals, table, write


def test_fault_passes_only_in_rounds_without_violation() -> None:
    totals = Totals(seed=7)
    good = Outcome(Counter({"worker killed": 2, "primary killed": 0}), events=100, keys=1_000)
    bad = Outcome(Counter({"worker killed": 1}), events=50, violations=["reach: r1"])
    totals.add(round_of(1), good)
    totals.add(round_of(2), bad)
    text = table(totals)
    heading = " ".join(text.splitlines())
    assert "| worker killed | 3 | 1 |" in text
    assert "primary killed" not in text, "it was never injected"
    assert "2 rounds with 150 events and 1,000 key messages: 1 violations" in heading
    assert "seed 7" in heading


def test_seed_determines_the_round() -> None:
    assert round_of(5) == round_of(5)
    assert len({round_of(seed).shape for seed in range(40)}) == 3


def test_table_replaces_the_previous_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_page_without_marks_is_not_changed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n")
    with pytest.raises(ValueError, match="no marks"):
        write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n"
