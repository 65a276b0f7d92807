"""The deep search: `python -m tests.verification.model --events 3` plays every history of three events."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from resource import RUSAGE_CHILDREN, getrusage

from tests.verification.model.rules import Rule
from tests.verification.model.search import Found, search
from tests.verification.model.state import Event, Scenario

EVENTS = (
    Event("add", (1,)),
    Event("add", (2,)),
    Event("remove", (1,)),
    Event("remove", (2,)),
    Event("rotate"),
    Event("add", (1, 2), sliced=True),
    Event("remove", (1, 2), sliced=True),
)
"""What happens in a room of a, b and c; a stays."""


def main() -> int:
    """Search, and say what was found."""
    asked = _asked()
    found: list[Found] = []
    since = time.monotonic()
    with ProcessPoolExecutor(asked.jobs) as jobs:
        one = partial(search, broken=asked.broken, most=asked.depth)
        scenarios = list(_scenarios(asked))
        for scenario, result in zip(scenarios, jobs.map(one, scenarios), strict=True):
            found.append(result)
            if result.violation is not None:
                _say(_told(scenario), result.violation, *(f"  {step}" for step in result.steps))
                jobs.shutdown(cancel_futures=True)
                break
            if len(found) % 20 == 0:
                _say(f"{len(found)} histories, {sum(item.states for item in found)} states")
    states, depth = sum(item.states for item in found), max(item.depth for item in found)
    memory = getrusage(RUSAGE_CHILDREN).ru_maxrss // 1024
    took = time.monotonic() - since
    _say(
        f"{len(found)} histories, {states} states, {depth} deep, {took:.0f} s, {memory} MiB in the largest process"
    )
    return any(item.violation is not None for item in found)


def _asked() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.verification.model", description=__doc__)
    parser.add_argument("--events", type=int, default=2, help="how long each history is")
    parser.add_argument("--takes", type=int, default=1, help="how often the lease is taken from its living owner")
    parser.add_argument("--breaks", type=int, default=1, help="how often a connection breaks")
    parser.add_argument("--conflicts", type=int, default=1, help="how often a transaction meets a conflict")
    parser.add_argument("--size", choices=("small", "big", "either"), default="big")
    parser.add_argument("--members", choices=("a", "ab", "none"), default="ab", help="who is there at first")
    parser.add_argument("--depth", type=int, default=None, help="how many steps; all that there are unless told")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument(
        "--broken", type=lambda name: Rule[name], action="append", default=[], help="a rule's name"
    )
    return parser.parse_args()


def _scenarios(asked: Namespace) -> Iterator[Scenario]:
    members = {"a": (0,), "ab": (0, 1), "none": ()}[asked.members]
    first = () if members else (Event("add", (0,)),)
    for log in product(EVENTS, repeat=asked.events):
        yield Scenario(
            (*first, *log), members, size=asked.size, keyed=bool(members), takes=asked.takes,
            breaks=asked.breaks, conflicts=asked.conflicts,
        )  # fmt: skip


def _told(scenario: Scenario) -> str:
    return ", ".join(
        f"{event.kind} {''.join('abcd'[account] for account in event.accounts)}{' in slices' * event.sliced}"
        for event in scenario.log
    )


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
