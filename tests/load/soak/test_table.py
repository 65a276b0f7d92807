"""The soak's table: what is counted, and where it is written."""

from collections import Counter
from pathlib import Path

import pytest

from tests.load.soak.rounds import Outcome, round_of
from tests.load.soak.table import BEGIN, END, Tally, table, write


def test_a_fault_counts_as_judged_only_in_rounds_that_were_right() -> None:
    tally = Tally(seed=7)
    good = Outcome(Counter({"worker killed": 2, "primary killed": 0}), events=100, keys=1_000)
    bad = Outcome(Counter({"worker killed": 1}), events=50, violations=["reach: r1"])
    tally.add(round_of(1), good)
    tally.add(round_of(2), bad)
    text = table(tally)
    assert "| worker killed | 3 | 1 |" in text
    assert "primary killed" not in text, "it never struck"
    assert "2 rounds, 150 events and 1,000 key messages judged, 1 violations" in text
    assert "seed 7" in text


def test_a_seed_says_everything_about_a_round() -> None:
    assert round_of(5) == round_of(5)
    assert len({round_of(seed).shape for seed in range(40)}) == 3


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_page_without_a_place_for_it_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n")
    with pytest.raises(ValueError, match="no place"):
        write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n"
