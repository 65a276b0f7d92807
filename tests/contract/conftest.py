"""The store under test: every test here runs once over each driver."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from store.database import Driver
from tests.contract.stores import Store, opened


@pytest.fixture(params=get_args(Driver))
async def store(request: pytest.FixtureRequest, mongo_uri: str, database: str) -> AsyncIterator[Store]:
    async with opened(mongo_uri, database, request.param) as made:
        yield made
