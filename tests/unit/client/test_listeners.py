"""Key listeners: iterators and callbacks see each new key once, in order."""

import pytest

from roomkeys.client.keyring import HeldKey
from roomkeys.client.listeners import KeyListeners
from roomkeys.keys import RoomKey


def key(version: int) -> HeldKey:
    return HeldKey("r1", RoomKey(version, bytes([version]) * 32))


async def test_every_iterator_yields_every_key_in_order_until_the_client_closes() -> None:
    listeners = KeyListeners(10)
    first, second = listeners.iterate(), listeners.iterate()
    for version in (1, 2):
        listeners.notify(key(version))
    listeners.close()
    assert [added.version async for added in first] == [1, 2]
    assert [added.version async for added in second] == [1, 2]
    assert [added.version async for added in listeners.iterate()] == []


async def test_an_iterator_that_is_not_read_keeps_the_newest_keys(caplog: pytest.LogCaptureFixture) -> None:
    listeners = KeyListeners(3)
    slow = listeners.iterate()
    for version in range(10):
        listeners.notify(key(version))
    assert [(await anext(slow)).version for _ in range(3)] == [7, 8, 9]
    assert set(caplog.messages) == {"an iterator over changes is read too slowly: dropped its oldest key"}


async def test_a_callback_is_called_until_it_is_removed() -> None:
    listeners = KeyListeners(10)
    called: list[int] = []
    remove = listeners.add_callback(lambda added: called.append(added.version))
    listeners.notify(key(1))
    remove()
    remove()
    listeners.notify(key(2))
    assert called == [1]


async def test_a_failing_callback_is_logged_without_its_text_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listeners = KeyListeners(10)
    called: list[int] = []

    def fails(added: HeldKey) -> None:
        raise ValueError(added.key.secret)

    listeners.add_callback(fails)
    listeners.add_callback(lambda added: called.append(added.version))
    listeners.notify(key(1))
    assert called == [1]
    assert caplog.messages == ["a callback failed: ValueError"]
