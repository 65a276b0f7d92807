"""Collections and indexes are created even if several replicas start at once."""

import asyncio
from typing import get_args

import pytest

from store.database import Driver, connect
from store.indexes import INDEXES, ensure_indexes


@pytest.mark.parametrize("driver", get_args(Driver))
async def test_replicas_that_start_at_once_all_create_the_indexes(
    mongo_uri: str, new_database: str, driver: Driver
) -> None:
    over = connect(mongo_uri, new_database, driver)
    for _ in range(3):
        await over.client.drop_database(new_database)
        await asyncio.gather(*(ensure_indexes(over) for _ in range(8)))
    for collection, models in INDEXES.items():
        there = await over[collection].index_information()
        assert {model.document["name"] for model in models} <= set(there), collection
    await over.close()
