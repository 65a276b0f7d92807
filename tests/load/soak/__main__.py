"""`python -m tests.load.soak`: judged rounds of chaos for `SOAK_MINUTES`, from `SOAK_SEED`.

`SOAK_ROUND` plays one round, by its seed. The first violation ends it: what is left of the round, with a summary
of its recording, stays in a folder that is named. Otherwise the table in docs/reliability.md is written anew.
"""

import asyncio
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.load.soak.rounds import Outcome, Round, play, round_of
from tests.load.soak.summary import summary
from tests.load.soak.table import Tally, table, write
from tests.verification.oracle.recording import Recording

PAGE = Path("docs/reliability.md")
SEEDS = 100_000


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a program


async def one(seed: int) -> tuple[Round, Outcome]:
    """Play a round and tell of it; keep what is left of it if it was not right."""
    plan, folder = round_of(seed), Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
    outcome, recording = await play(plan, folder)
    struck = ", ".join(f"{name} {count}" for name, count in outcome.faults.items() if count)
    say(f"SOAK_ROUND={seed}: {plan.shape}, {outcome.seconds:.0f} s, {outcome.events} events, {outcome.keys} keys")
    say(f"    {struck}")
    if outcome.violations:
        _tell_of(plan, outcome, recording, folder)
    else:
        shutil.rmtree(folder)
    return plan, outcome


def _tell_of(plan: Round, outcome: Outcome, recording: Recording | None, folder: Path) -> None:
    text = summary(plan, outcome, recording)
    (folder / "summary.txt").write_text(text)
    say("\n".join(outcome.violations))
    say(f"{len(outcome.violations)} violations; SOAK_ROUND={plan.seed} plays it again, {folder} has what is left")


async def many(seed: int, minutes: float) -> Tally:
    """Play rounds until the time is over or one was not right."""
    tally, end = Tally(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < end and not tally.violations:
        tally.add(*await one(seed * SEEDS + tally.rounds))
    return tally


def main() -> int:
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # servers that are away are what this is about
    if "SOAK_ROUND" in os.environ:
        _, outcome = asyncio.run(one(int(os.environ["SOAK_ROUND"])))
        return len(outcome.violations) > 0
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(SEEDS))
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    say(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g}")
    tally = asyncio.run(many(seed, minutes))
    say(table(tally))
    if not tally.violations:
        write(PAGE, table(tally))
    return tally.violations > 0


if __name__ == "__main__":
    sys.exit(main())
