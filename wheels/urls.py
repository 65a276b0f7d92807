"""Fills `[project.urls]`: a build names the public repository that it was made from, so a fork names the fork.

Git knows that address; a file in the repository does not. A build without a public remote, for example from an
unpacked archive or in an image, names no address.
"""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PAGES: Final = {
    "Homepage": "",
    "Documentation": "/tree/HEAD/docs",
    "Changelog": "/blob/HEAD/CHANGELOG.md",
    "Issues": "/issues",
}
_REMOTE: Final = re.compile(
    r"(?:(?:https|ssh)://)?(?:[^@/]+@)?([\w-]+(?:\.[\w-]+)+)(?::\d+)?[:/]/*([\w.~/-]+?)(?:\.git)?/?"
)
"""A remote on a host with a domain, without its user, password and port: the host and the path."""


def urls(remote: str) -> dict[str, str]:
    """Return the pages of the repository at this git remote; none if it is a path or a host without a domain."""
    match = _REMOTE.fullmatch(remote)
    return {name: f"https://{match[1]}/{match[2]}{path}" for name, path in _PAGES.items()} if match else {}


class RepositoryUrls(MetadataHookInterface):
    """Sets the field `urls`, which both projects declare as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the addresses to the metadata; hatchling calls this once for each build."""
        metadata["urls"] = urls(_origin(Path(self.root)))


def _origin(folder: Path) -> str:
    try:
        asked = subprocess.run(
            ["git", "remote", "get-url", "origin"], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError:  # there is no git
        return ""
    return asked.stdout.strip()
