"""Errors of NATS in the words of the broker, which name subjects, streams and permissions, but no payload."""

import nats.errors
from nats.js.errors import APIError

from worker.settings import WrongSetting
from worker.telemetry.logs import where


def describe(error: BaseException) -> str:
    """Return what is wrong: the broker's text and, from JetStream, its error code."""
    match error:
        case APIError(err_code=int(code), description=str(text)):
            return f"{text} (JetStream error {code})"
        case APIError(description=None) | nats.errors.NoRespondersError():
            return "JetStream does not answer: it is not enabled for this account, or has no leader"
        case nats.errors.Error():
            return str(error).removeprefix("nats: ").strip("'") or type(error).__name__
        case OSError():
            return f"{type(error).__name__}: {error}"
        case WrongSetting():
            return str(error)
    return where(error)
