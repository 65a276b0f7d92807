"""`python -m tests.load.soak` plays rounds for `SOAK_MINUTES` (30), beginning with `SOAK_SEED` (random).

`SOAK_ROUND` plays one round, by its seed. The first violation ends the soak: it names a folder that has the logs
of the round and a summary of its recording. Without a violation the table in docs/reliability.md is updated.
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
from tests.load.soak.table import Totals, table, write
from tests.verification.oracle.recording import Recording

PAGE = Path("docs/reliability.md")
SEEDS = 100_000


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a program


async def play_one(seed: int) -> tuple[Round, Outcome]:
    """Play a round and print its outcome; keep its folder if an invariant was violated."""
    plan, folder = round_of(seed), Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
    outcome, recording = await play(plan, folder)
    injected = ", ".join(f"{name}: {count}" for name, count in outcome.faults.items() if count)
    say(f"SOAK_ROUND={seed}: {plan.shape}, {outcome.seconds:.0f} s, {outcome.events} events, {outcome.keys} keys")
    say(f"    {injected}")
    if outcome.violations:
        _report(plan, outcome, recording, folder)
    else:
        shutil.rmtree(folder)
    return plan, outcome


def _report(plan: Round, outcome: Outcome, recording: Recording | None, folder: Path) -> None:
    (folder / "summary.txt").write_text(summary(plan, outcome, recording))
    say("\n".join(outcome.violations))
    say(f"{len(outcome.violations)} violations; logs and summary are in {folder}")
    say(f"SOAK_ROUND={plan.seed} make soak repeats this round")


async def play_many(seed: int, minutes: float) -> Totals:
    """Play rounds until the time is over or an invariant is violated."""
    totals, end = Totals(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < end and not totals.violations:
        totals.add(*await play_one(seed * SEEDS + totals.rounds))
    return totals


def main() -> int:
    """Play the rounds that the environment asks for; return 1 after a violation."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # every round takes servers away
    if "SOAK_ROUND" in os.environ:
        _, outcome = asyncio.run(play_one(int(os.environ["SOAK_ROUND"])))
        return len(outcome.violations) > 0
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(SEEDS))
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    say(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g}")
    totals = asyncio.run(play_many(seed, minutes))
    say(table(totals))
    if not totals.violations:
        write(PAGE, table(totals))
    return totals.violations > 0


if __name__ == "__main__":
    sys.exit(main())
