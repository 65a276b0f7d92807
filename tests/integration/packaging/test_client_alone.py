"""A program that has installed the client's wheel and nothing else of this project. (docs/install.md)"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import run, variables
from tests.harness.site import Rig
from tests.integration.packaging.conftest import run_with_index
from tests.integration.packaging.distributions import CLIENT, PROJECT, sources, wheel

pytestmark = pytest.mark.timeout(300)  # pip may have to download

INSTALLED = {
    "room-worker-client",
    *("cryptography", "nats-py", "orjson", "pydantic"),
    # What these require in turn:
    *("annotated-types", "cffi", "pycparser", "pydantic-core", "typing-extensions", "typing-inspection"),
}
LIST = """
import importlib.metadata, importlib.util, json, pkgutil
import roomkeys
names = [module.name for module in pkgutil.walk_packages(roomkeys.__path__, "roomkeys.")]
modules = [roomkeys, *map(importlib.import_module, names)]
print(json.dumps({
    "distributions": [item.name.replace("_", "-") for item in importlib.metadata.distributions()],
    "files": [module.__file__.partition("site-packages/")[2] for module in modules],
    "packages": [name for name in ("roomkeys", "store", "worker") if importlib.util.find_spec(name)],
}))
"""


@pytest.fixture(scope="session")
def client_python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the client's wheel into an empty environment and return its interpreter."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    locked = (PROJECT / "requirements" / "run.txt").read_text()
    (folder / "versions.txt").write_text("\n".join(re.findall(r"^[a-z0-9-]+==[^ ;]+", locked, re.MULTILINE)))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install")
    run_with_index(*pip, "-c", str(folder / "versions.txt"), str(wheel(dist, CLIENT)), cwd=folder)
    return python


async def test_client_wheel_brings_no_driver_no_web_server_and_no_command(client_python: str) -> None:
    listed = await run("-I", "-c", LIST, env={}, program=client_python)
    assert listed.code == 0, listed.err
    found = listed.json()
    assert set(found["distributions"]) == INSTALLED
    assert found["packages"] == ["roomkeys"]
    assert set(found["files"]) == sources("roomkeys") - {"roomkeys/py.typed"}
    assert list(Path(client_python).parent.glob("room-worker*")) == []


async def test_client_alone_gets_a_key_from_a_worker_and_opens_a_message(
    site_rig: Rig, client_python: str, tmp_path: Path
) -> None:
    page = (PROJECT / "docs" / "client.md").read_text()
    program, printed = re.findall(r"^```(?:python)?\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[:2]
    (script := tmp_path / "first.py").write_text(program)
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        room = {"roomId": "r1", "name": "general", "users": ["bob"], "requesterAccount": "alice"}
        await site_rig.ask("create", room)
        arguments = (site_rig.settings.nats_url[0], "bob", site_rig.site, "r1")
        played = await run(str(script), *arguments, env=variables(site_rig), program=client_python)
    assert (played.code, played.out) == (0, printed), played.err
