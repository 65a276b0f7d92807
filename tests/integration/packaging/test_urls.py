"""The metadata of a wheel names the public repository that it was built from. (wheels/urls.py)"""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.packaging.distributions import PROJECT

HOME = "https://forge.example/team/room-worker"


@pytest.mark.parametrize(
    "remote",
    [
        HOME,
        f"{HOME}.git",
        f"{HOME}/",
        "https://user:secret@forge.example/team/room-worker.git",
        "git@forge.example:team/room-worker.git",
        "ssh://git@forge.example:2222/team/room-worker.git",
    ],
)
def test_urls_name_the_repository_without_user_secret_and_port(remote: str) -> None:
    assert set(runpy.run_path(str(PROJECT / "wheels/urls.py"))["urls"](remote).values()) == {
        HOME,
        f"{HOME}/tree/HEAD/docs",
        f"{HOME}/blob/HEAD/CHANGELOG.md",
        f"{HOME}/issues",
    }


@pytest.mark.parametrize(
    "remote", ["", "/srv/git/room-worker.git", "../room-worker", "file:///srv/x.git", "localhost:x"]
)
def test_urls_are_empty_without_a_public_remote(remote: str) -> None:
    assert runpy.run_path(str(PROJECT / "wheels/urls.py"))["urls"](remote) == {}


@pytest.mark.parametrize("project", [".", "wheels/client"])
def test_both_projects_take_their_urls_from_the_remote(tmp_path: Path, project: str) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / "wheels", tmp_path / "wheels")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "remote", "add", "origin", f"{HOME}.git"], cwd=tmp_path, check=True)
    assert metadata(tmp_path / project)["urls"]["Homepage"] == HOME


def metadata(project: Path) -> dict[str, Any]:
    """Return what the build backend would write into a wheel of the project."""
    command = [sys.executable, "-m", "hatchling", "metadata"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict[str, Any](json.loads(done.stdout))
