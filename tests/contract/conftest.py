"""The store under test: every test here runs once over each driver.

Each test has its own database: an index that has ever held an array no longer covers a query.
"""

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from store.database import Driver
from tests.contract.stores import Store, opened


@pytest.fixture(params=get_args(Driver))
async def store(request: pytest.FixtureRequest, mongo_uri: str, new_database: str) -> AsyncIterator[Store]:
    async with opened(mongo_uri, new_database, request.param) as made:
        yield made
