"""The checks of streams: the two of the site, and others that would store keys or results."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import nats.errors
import orjson
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from roomkeys import subjects
from worker.broker.connection import Broker
from worker.broker.permissions.rights import Right
from worker.cli.check.result import CheckResult, failed, passed, warned
from worker.settings import Settings

STREAM_NAMES: Final = Right("$JS.API.STREAM.NAMES", "$JS.API.STREAM.NAMES")
"""What only this check needs: to find the streams that overlap a subject."""

_EVENTS: Final = "events"
_LETTERS: Final = "dead letters"
_ANSWER_S: Final = 2.0
_SHORTEST_AGE_S: Final = 3_600.0
"""An outage may last longer than this."""


async def check_streams(broker: Broker, settings: Settings, *, finds_others: bool) -> AsyncIterator[CheckResult]:
    """Yield the results for both streams of the site, and with `finds_others` for those that store too much."""
    site = settings.site_id
    for part, name, subject in (
        (_EVENTS, subjects.events_stream(site), subjects.events_subjects(site)),
        (_LETTERS, subjects.dead_letter_stream(site), subjects.dead_letter_subject(site)),
    ):
        try:
            info = await broker.jetstream.stream_info(name)
        except NotFoundError:
            yield _missing(part, name, subject, settings)
            continue
        problems = list(stream_problems(part, subject, info.config))
        for problem in problems:
            yield problem
        if not problems:
            yield passed(part, f"{name}{_origin(info)} contains {info.state.messages} messages")
    if finds_others:
        async for result in _others(broker, settings):
            yield result


def _missing(part: str, name: str, subject: str, settings: Settings) -> CheckResult:
    if settings.bootstrap_streams:
        return passed(part, f"{name} is missing; the worker creates it (BOOTSTRAP_STREAMS)")
    create = f"nats stream add {name} --subjects '{subject}' --retention limits --defaults"
    return failed(part, f"{name} is missing: create it ({create}), or set BOOTSTRAP_STREAMS=true")


def stream_problems(part: str, subject: str, config: StreamConfig) -> Iterator[CheckResult]:
    """Yield what is wrong with a stream of the site; a warning where the worker can do its work all the same."""
    name, edit = config.name, f"nats stream edit {config.name}"
    if part == _EVENTS and config.retention not in {None, RetentionPolicy.LIMITS}:
        text = f"{name} has retention {config.retention}, which may delete events before they are applied"
        yield failed(part, f"{text}: recreate it with retention limits")
    if part == _LETTERS and config.retention == RetentionPolicy.INTEREST:
        text = f"{name} has retention interest, so it deletes letters that no consumer waits for"
        yield failed(part, f"{text}: recreate it with retention limits")
    own_copy = config.mirror is None and not config.sources
    captured = config.subjects or []
    if own_copy and not any(covers(pattern, subject) for pattern in captured):
        yield failed(part, f"{name} captures {', '.join(captured) or 'no subject'}: add the subject {subject}")
    if config.sealed:
        yield failed(part, f"{name} is sealed and takes no more messages: replace it by a stream that is not")
    if config.no_ack:
        result = failed if part == _LETTERS else warned
        yield result(part, f"{name} acknowledges nothing (no_ack), so nobody knows what it stored: {edit} --ack")
    yield from _limits(part, name or "", config, edit)


def _limits(part: str, name: str, config: StreamConfig, edit: str) -> Iterator[CheckResult]:
    per_subject, age_s = config.max_msgs_per_subject or 0, config.max_age or 0
    if part == _EVENTS and per_subject > 0:
        text = f"{name} keeps {per_subject} events for each subject, and deletes others before they are applied"
        yield failed(part, f"{text}: {edit} --max-msgs-per-subject=-1")
    if part == _EVENTS and 0 < age_s < _SHORTEST_AGE_S:
        text = f"{name} deletes events after {age_s:g} s, also those that were not applied in an outage"
        yield warned(part, f"{text}: {edit} --max-age=30d")
    if config.discard == DiscardPolicy.NEW and max(config.max_msgs or 0, config.max_bytes or 0) > 0:
        text = f"{name} refuses messages while it is full (discard new)"
        yield warned(part, f"{text}: {edit} --discard=old, or watch its size")
    if config.storage == StorageType.MEMORY:
        text = f"{name} is in memory, so that a restart of the server loses it"
        yield warned(part, f"{text}: recreate it with storage file")


def covers(pattern: str, subject: str) -> bool:
    """Tell whether a stream with the subject `pattern` takes all of `subject`; both may have wildcards."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">" and len(tokens) >= len(wanted):
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    same = (want == one or (want == "*" and one != ">") for want, one in zip(wanted, tokens, strict=False))
    return len(wanted) == len(tokens) and all(same)


def _origin(info: StreamInfo) -> str:
    if info.config.mirror is not None:
        return f", a mirror of {info.config.mirror.name},"
    sources = [source.name for source in info.config.sources or []]
    return f", which collects from {', '.join(sources)}," if sources else ""


async def _others(broker: Broker, settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a warning for each stream that stores keys or results."""
    replies = [f"{prefix}>" for prefix in settings.key_service_replies]
    found: dict[str, list[str]] = {}
    for what, subject in (
        ("room keys", subjects.room_key("*")),
        *(("replies of the key service, keys included", reply) for reply in replies),
        ("results", subjects.response("*", "*")),
    ):
        for name in await _overlapping(broker, subject):
            found.setdefault(name, []).append(f"{what} ({subject})")
    for name, stored in found.items():
        advice = "narrow its subjects, and purge what it has stored of them"
        yield warned("other streams", f"{name} stores {', '.join(stored)}: {advice}")


async def _overlapping(broker: Broker, subject: str) -> list[str]:
    """Return the names of the streams that take a message whose subject matches."""
    try:
        answer = await broker.client.request(
            STREAM_NAMES.subject, orjson.dumps({"subject": subject}), timeout=_ANSWER_S
        )
    except nats.errors.TimeoutError:
        return []
    return orjson.loads(answer.data).get("streams") or []
