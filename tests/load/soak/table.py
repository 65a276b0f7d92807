"""The table of a soak, for the terminal and for docs/reliability.md."""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

from tests.load.soak.rounds import Outcome, Round

BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


@dataclass
class Totals:
    """The rounds so far; `injected` counts faults, `passed` the rounds with each that had no violation."""

    seed: int
    rounds: int = 0
    events: int = 0
    keys: int = 0
    violations: int = 0
    seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    small: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    versions: tuple[str, str] = ("", "")

    def add(self, plan: Round, outcome: Outcome) -> None:
        """Count a round."""
        self.rounds += 1
        self.events += outcome.events
        self.keys += outcome.keys
        self.violations += len(outcome.violations)
        self.seconds += outcome.seconds
        self.versions = outcome.versions
        self.injected += outcome.faults
        self.shapes[plan.shape] += 1
        self.small += plan.small
        if not outcome.violations:
            self.passed += Counter({name: 1 for name, count in outcome.faults.items() if count})


def table(totals: Totals) -> str:
    """Return the totals in Markdown."""
    nats, mongo = totals.versions
    day, minutes = time.strftime("%Y-%m-%d", time.gmtime()), totals.seconds / 60
    shapes = ", ".join(f"{count} with {name}" for name, count in sorted(totals.shapes.items()))
    judged = f"{totals.rounds} rounds with {totals.events:,} events and {totals.keys:,} key messages"
    text = (
        f"`make soak` on {day}: {minutes:.0f} minutes on {os.cpu_count()} cores, seed {totals.seed}, NATS {nats}, "
        f"MongoDB {mongo}. **{judged}: {totals.violations} violations.** {shapes}. In {totals.small} of them the "
        "limits are small: a room of five is large, and an event of four accounts is applied in slices."
    )
    lines = [fill(text, 120), "", "| fault | times injected | rounds with it that passed |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {count} | {totals.passed[name]} |" for name, count in sorted(totals.injected.items()) if count
    ]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Replace the text between the marks of a page; `ValueError` if it has none."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no marks for the table")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
