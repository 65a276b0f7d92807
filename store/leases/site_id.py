"""The id of a site, created once and stored in its database. (docs/design.md, "Site identity")"""

from uuid import uuid4

from store.database import Database
from store.errors import translated
from store.leases.lease import SITES


async def stored_site_id(database: Database, site: str) -> str | None:
    """Return the site's id in this database, or None if it has none there."""
    found = await database.find(SITES, {"_id": site}, {"id": 1})
    stored = found[0].get("id") if found else None
    return stored if isinstance(stored, str) and stored else None


async def ensure_site_id(database: Database, site: str) -> str:
    """Return the site's id in this database, and create it if there is none; `ensure_cursors` goes before."""
    create = [{"$set": {"id": {"$ifNull": ["$id", uuid4().hex]}}}]
    with translated():
        document = await database[SITES].find_one_and_update({"_id": site}, create, return_document=True)
    return str(document["id"])
