"""What `make dist` builds, once per session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.packaging.distributions import PROJECT


def run_with_index(*command: str, cwd: Path) -> None:
    """Run a command that downloads packages; fail with what it printed."""
    # Neither the flags nor the variables of a `make` that runs these tests.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"{' '.join(command)} failed. It needs a package index, or what pip is configured to use instead:\n"
        f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
    )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the sdist and both wheels."""
    folder = tmp_path_factory.mktemp("dist")
    built, tools = folder / "built", folder / "tools"
    run_with_index("make", "dist", f"PYTHON={sys.executable}", f"VENV={tools}", f"DIST={built}", cwd=PROJECT)
    return built
