"""`room-worker check`: what it concludes from a server's own description."""

import pytest

from worker.cli.check.mongo import check_replica_set


@pytest.mark.parametrize(
    ("hello", "ok", "text"),
    [
        ({"setName": "rs0", "isWritablePrimary": True, "me": "a:1"}, True, "rs0, primary a:1"),
        ({"msg": "isdbgrid", "isWritablePrimary": True}, True, "a sharded cluster"),
        ({"isWritablePrimary": True}, False, "--replSet rs0"),
        ({"setName": "rs0", "isWritablePrimary": False, "me": "a:1"}, False, "replicaSet="),
    ],
)
def test_replica_set_check_fails_without_transactions_or_without_a_primary(
    hello: dict[str, object], ok: bool, text: str
) -> None:
    result = check_replica_set(hello)
    assert (result.ok, text in result.text) == (ok, True)
