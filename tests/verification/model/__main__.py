"""The deep search: `python -m tests.verification.model --events 3` plays every history of three events."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from resource import RUSAGE_CHILDREN, getrusage
from typing import Final

from tests.verification.model.rules import Rule
from tests.verification.model.scenario import ROTATE, A, B, C, Scenario, Size, add, in_slices, remove
from tests.verification.model.search import Found, search

EVENTS: Final = (
    add(B), add(C), remove(B), remove(C), ROTATE, in_slices(add(B, C)), in_slices(remove(B, C)),
)  # fmt: skip
"""What can happen in a room of a, b and c; a stays."""

MEMBERS: Final = {"a": (A,), "ab": (A, B), "none": ()}
PROGRESS_EVERY: Final = 20


def main() -> int:
    """Search, and print what was found; return 1 after a violation."""
    options = _options()
    since = time.monotonic()
    found = _search_all(options, list(_scenarios(options)))
    states, depth = sum(one.states for one in found), max(one.depth for one in found)
    took, memory = time.monotonic() - since, getrusage(RUSAGE_CHILDREN).ru_maxrss // 1024
    _print(
        f"{len(found)} histories, {states:,} states, at most {depth} steps, {took:.0f} s, "
        f"{memory} MiB in the largest process"
    )
    return any(one.violation is not None for one in found)


def _search_all(options: Namespace, scenarios: list[Scenario]) -> list[Found]:
    """Return what was found in each scenario, up to the first violation."""
    found: list[Found] = []
    with ProcessPoolExecutor(options.jobs) as jobs:
        one = partial(search, left_out=options.without, max_depth=options.depth)
        for scenario, result in zip(scenarios, jobs.map(one, scenarios), strict=True):
            found.append(result)
            if result.violation is not None:
                _print(str(scenario), str(result))
                jobs.shutdown(cancel_futures=True)
                break
            if len(found) % PROGRESS_EVERY == 0:
                _print(f"{len(found)} histories, {sum(one.states for one in found):,} states")
    return found


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.verification.model", description=__doc__)
    option = parser.add_argument
    option("--events", type=int, default=2, help="events of each history (default: 2)")
    option("--takeovers", type=int, default=1, help="how often the lease is taken from a living owner (default: 1)")
    option("--disconnects", type=int, default=1, help="how often a connection breaks (default: 1)")
    option("--conflicts", type=int, default=1, help="how often a transaction meets a conflict (default: 1)")
    option("--size", type=Size, choices=list(Size), default=Size.LARGE, help="size of the room (default: large)")
    option("--members", choices=MEMBERS, default="ab", help="members at the start (default: ab)")
    option("--depth", type=int, default=None, help="steps of each history (default: as many as there are)")
    option("--jobs", type=int, default=1, help="processes (default: 1)")
    option("--without", type=lambda name: Rule[name], action="append", default=[], help="a rule to leave out")
    return parser.parse_args()


def _scenarios(options: Namespace) -> Iterator[Scenario]:
    members = MEMBERS[options.members]
    first = () if members else (add(A),)
    for log in product(EVENTS, repeat=options.events):
        yield Scenario(
            (*first, *log), members, size=options.size, has_key=bool(members), takeovers=options.takeovers,
            disconnects=options.disconnects, conflicts=options.conflicts,
        )  # fmt: skip


def _print(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
