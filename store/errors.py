"""What the drivers' errors mean: a write conflict, a transient failure, or an unexpected one.

The drivers' own errors never leave this package, not even as a cause. Their texts and details quote the documents
of a failed write, including key bytes. (docs/design.md, invariant 9)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo import errors
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from roomkeys.errors import TransientError, Unexpected, WriteConflict

_WRITE_CONFLICT: Final = 112
# Server errors that pass when an operator acts, an election ends or a disk catches up. They cost no event.
_PASSING_CODES: Final = frozenset(
    (
        *(6, 7, 89, 9001),  # HostUnreachable, HostNotFound, NetworkTimeout, SocketException
        *(13, 18),  # Unauthorized, AuthenticationFailed
        211,  # KeyNotFound: after an election, until keys are signed again
        *(189, 10107),  # PrimarySteppedDown, NotWritablePrimary
        *(13435, 13436),  # NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary
        *(64, 133, 134),  # WriteConcernFailed, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet
        *(91, 11600, 11601),  # ShutdownInProgress, InterruptedAtShutdown, Interrupted
        11602,  # InterruptedDueToReplStateChange
        *(24, 50, 202, 262),  # LockTimeout, MaxTimeMSExpired, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit
        *(43, 136, 175, 237),  # CursorNotFound, CappedPositionLost, QueryPlanKilled, CursorKilled
        *(225, 246, 251),  # TransactionTooOld, SnapshotUnavailable, NoSuchTransaction
        290,  # TransactionExceededLifetimeLimitSeconds
        *(365, 462, 14031),  # TemporarilyUnavailable, IngressRequestRateLimitExceeded, OutOfDiskSpace
    )
)
_PASSING_TYPES: Final = (ConnectionFailure, errors.ExecutionTimeout, errors.WTimeoutError, errors.WaitQueueTimeoutError)
_PASSING_LABELS: Final = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")


@contextmanager
def translated() -> Iterator[None]:
    """Translate the drivers' errors into `roomkeys.errors`. The new error names only the kind and the code.

    `WriteConflict`: nothing was written. `TransientError`: the cause is temporary. `Unexpected`: it may not be.
    """
    try:
        yield
    except BSONError as error:
        raise Unexpected(type(error).__name__) from None
    except PyMongoError as error:
        label = f"{type(error).__name__} {_code(error) or ''}".strip()
        if is_conflict(error):
            raise WriteConflict(label) from None
        if is_transient(error):
            raise TransientError(label) from None
        raise Unexpected(label) from None


def is_conflict(error: PyMongoError) -> bool:
    """Tell whether nothing was written and a retry at once may succeed: another writer, a new collection or index."""
    if isinstance(error, ConnectionFailure):
        return False
    refused = isinstance(error, OperationFailure) and error.has_error_label("TransientTransactionError")
    return refused or _WRITE_CONFLICT in _codes(error)


def is_transient(error: PyMongoError) -> bool:
    """Tell whether the cause is temporary, so that waiting helps."""
    has_label = any(map(error.has_error_label, _PASSING_LABELS))
    return has_label or isinstance(error, _PASSING_TYPES) or bool(_codes(error) & _PASSING_CODES)


def _code(error: PyMongoError) -> int | None:
    return error.code if isinstance(error, OperationFailure) else None


def _codes(error: PyMongoError) -> set[int]:
    codes = {_code(error)}
    if isinstance(error, BulkWriteError):
        codes |= {item.get("code") for item in error.details.get("writeErrors", ())}
        codes |= {item.get("code") for item in error.details.get("writeConcernErrors", ())}
    return {code for code in codes if code is not None}
