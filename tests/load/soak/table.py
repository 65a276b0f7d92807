"""What many rounds came to: a table, for the terminal and for docs/reliability.md."""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.load.soak.rounds import Outcome, Round

BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


@dataclass
class Tally:
    """The rounds so far; `struck` counts faults, `judged` the rounds with each that the judge found right."""

    seed: int
    rounds: int = 0
    events: int = 0
    keys: int = 0
    violations: int = 0
    seconds: float = 0.0
    struck: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    small: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    versions: tuple[str, str] = ("", "")

    def add(self, plan: Round, outcome: Outcome) -> None:
        """Count a round."""
        self.rounds += 1
        self.events += outcome.events
        self.keys += outcome.keys
        self.violations += len(outcome.violations)
        self.seconds += outcome.seconds
        self.versions = outcome.versions
        self.struck += outcome.faults
        self.kinds[plan.shape] += 1
        self.small += plan.small
        if not outcome.violations:
            self.judged += Counter({name: 1 for name, count in outcome.faults.items() if count})


def table(tally: Tally) -> str:
    """Return the tally in Markdown."""
    nats, mongo = tally.versions
    day, minutes = time.strftime("%Y-%m-%d", time.gmtime()), tally.seconds / 60
    kinds = ", ".join(f"{count} with {name}" for name, count in sorted(tally.kinds.items()))
    judged = f"{tally.rounds} rounds, {tally.events:,} events and {tally.keys:,} key messages judged"
    lines = [
        f"`make soak` on {day}: {minutes:.0f} minutes of rounds on {os.cpu_count()} cores, seed {tally.seed},",
        f"NATS {nats}, MongoDB {mongo}. **{judged}, {tally.violations} violations.**",
        f"{kinds}; in {tally.small} of them rooms of five are big, and events of four are cut in slices.",
        "",
        "| fault | struck | rounds with it judged right |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {count} | {tally.judged[name]} |" for name, count in sorted(tally.struck.items()) if count
    ]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put a text between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no place for it")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
