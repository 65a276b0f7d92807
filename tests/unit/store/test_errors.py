"""What the drivers' errors mean, and what their translation says about them."""

from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo import errors

from roomkeys.errors import DatabaseError, Refused, WriteConflict
from store.errors import translated

TEXT = "E11000 duplicate key: { priv: BinData(0, yv66vg) }"
CODES = [*range(2, 480), 9001, 10107, 11000, 11600, 11602, 13435, 13436, 14031, 16755, 50768, 5107200]
CONFLICT = 112


def command_error(code: int, *labels: str, **fields: Any) -> errors.OperationFailure:
    return errors.OperationFailure(TEXT, code, {"ok": 0, "errmsg": TEXT, "errorLabels": labels, **fields})


def bulk_error(code: int, kind: str = "writeErrors") -> errors.BulkWriteError:
    return errors.BulkWriteError({kind: [{"index": 0, "code": code, "errmsg": TEXT, "op": {"priv": TEXT}}]})


def translation(error: Exception, *, in_doubt: bool = False) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught, translated(in_doubt=in_doubt):
        raise error
    assert caught.value.__cause__ is None
    assert "priv" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("make", [command_error, bulk_error, lambda code: bulk_error(code, "writeConcernErrors")])
def test_every_code_means_that_nothing_was_written(make: Any) -> None:
    assert {type(translation(make(code))) for code in CODES if code != CONFLICT} == {Refused}


def test_every_code_of_a_commit_leaves_it_in_doubt() -> None:
    found = {type(translation(command_error(code), in_doubt=True)) for code in CODES if code != CONFLICT}
    assert found == {DatabaseError}


@pytest.mark.parametrize("in_doubt", [False, True])
def test_another_writer_was_first_if_the_server_says_so(in_doubt: bool) -> None:
    for error in (command_error(CONFLICT), bulk_error(CONFLICT), command_error(251, "TransientTransactionError")):
        assert type(translation(error, in_doubt=in_doubt)) is WriteConflict


@pytest.mark.parametrize(
    "error", [errors.AutoReconnect(TEXT), errors.NetworkTimeout(TEXT), errors.NotPrimaryError(TEXT)]
)
def test_connection_that_breaks_may_leave_anything_behind(error: errors.PyMongoError) -> None:
    assert type(translation(error)) is DatabaseError


def test_document_that_cannot_be_encoded_is_refused_by_the_driver() -> None:
    assert str(translation(InvalidDocument(TEXT))) == "InvalidDocument"


def test_text_has_code_and_name_and_nothing_else_of_the_server() -> None:
    assert (
        str(translation(command_error(371, codeName="UserWritesBlocked"))) == "OperationFailure 371 UserWritesBlocked"
    )
    assert str(translation(command_error(372))) == "OperationFailure 372"
    assert str(translation(bulk_error(121))) == "BulkWriteError 121 DocumentValidationFailure"
    assert str(translation(errors.AutoReconnect(TEXT))) == "AutoReconnect"


def test_code_name_that_is_no_name_is_left_out() -> None:
    assert str(translation(command_error(8, codeName=TEXT))) == "OperationFailure 8"
