"""The commands that the README, `room-worker dev` and `--help` show: one room, the same accounts, in this order.

The accounts are those that `room-worker dev` creates.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

ACCOUNTS: Final = ("alice", "bob", "carol")

CREATE: Final = "publish create --room general --name General --user bob --requester alice"
TAIL: Final = "tail bob --count 1"
ADD: Final = "publish add --room general --user carol --requester alice"
REMOVE: Final = "publish remove --room general --user bob --requester alice"
ROTATE: Final = "publish rotate --room general --requester alice --reason leaked"
STATUS: Final = "status"

TOUR: Final = (CREATE, TAIL, ADD, REMOVE, ROTATE, STATUS)


def program() -> str:
    """Return how this program can be called here: by its name if that finds it, otherwise by its path."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)
