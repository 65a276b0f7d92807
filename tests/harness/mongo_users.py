"""A MongoDB that asks for a login, and users with exactly the rights that a test gives them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from worker.local.ports import HOST
from worker.local.servers import MongoServer

ADMIN = "admin-of-the-tests"
SECRET = "not-a-secret"  # noqa: S105 - of a server that ends with the test


class GuardedServer(MongoServer):
    """A replica set of one with access control; the first user is created from this machine without a login."""

    def _prepare(self) -> Sequence[str]:
        arguments = super()._prepare()
        key = self.folder / "keyfile"
        key.write_text("a" * 64)
        key.chmod(0o600)
        return [*arguments, "--keyFile", str(key)]


@dataclass(frozen=True, slots=True)
class GuardedMongo:
    """The server, and a client that may do everything."""

    server: GuardedServer
    admin: AsyncMongoClient[dict[str, Any]]

    def uri(self, user: str = ADMIN) -> str:
        """Return the address for a user."""
        host, options = self.server.uri.removeprefix("mongodb://").split("/")
        return f"mongodb://{user}:{SECRET}@{host}/{options}&authSource=admin"

    async def user(self, name: str, database: str, actions: Mapping[str, Sequence[str]]) -> str:
        """Create a user who may do these actions, by collection, and return its address."""
        privileges = [
            {"resource": {"db": database, "collection": collection}, "actions": list(some)}
            for collection, some in actions.items()
            if some
        ]
        await self.admin.admin.command("createRole", f"role-{name}", privileges=privileges, roles=[])
        await self.admin.admin.command("createUser", name, pwd=SECRET, roles=[f"role-{name}"])
        return self.uri(name)

    async def grant(self, name: str, database: str, collection: str, *actions: str) -> None:
        """Let a user do more."""
        await self._change("grantPrivilegesToRole", name, database, collection, actions)

    async def revoke(self, name: str, database: str, collection: str, *actions: str) -> None:
        """Let a user do less, from now on."""
        await self._change("revokePrivilegesFromRole", name, database, collection, actions)

    async def _change(self, how: str, name: str, database: str, collection: str, actions: Sequence[str]) -> None:
        privilege = {"resource": {"db": database, "collection": collection}, "actions": list(actions)}
        await self.admin.admin.command(how, f"role-{name}", privileges=[privilege])


@asynccontextmanager
async def guarded_mongo(folder: Path) -> AsyncIterator[GuardedMongo]:
    """Run the server for the length of the block."""
    server = GuardedServer(folder)
    try:
        await server.start()
        async with AsyncMongoClient[dict[str, Any]](HOST, server.port, directConnection=True) as first:
            await first.admin.command("createUser", ADMIN, pwd=SECRET, roles=["root"])
        address = f"mongodb://{ADMIN}:{SECRET}@{HOST}:{server.port}/?directConnection=true"
        async with AsyncMongoClient[dict[str, Any]](address, tz_aware=True) as admin:
            yield GuardedMongo(server, admin)
    finally:
        await server.kill()
