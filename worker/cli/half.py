"""One half of the service in this process: the event worker or the key service."""

import asyncio
import gc
import os
from functools import partial
from typing import Final

import click

from worker import app
from worker.broker.compatibility import IncompatibleClient
from worker.cli.terminal.process import FAILURE, OK, until_stopped
from worker.limits import Limits
from worker.process.channel import reported
from worker.process.protocol import HOPELESS
from worker.process.shutdown import exit_late
from worker.settings import read_settings
from worker.telemetry import metrics
from worker.telemetry.health import served
from worker.telemetry.logs import configure

COLLECT_AFTER: Final = (50_000, 20, 50)
"""Thresholds of the garbage collector: how many new objects start a search for cycles.

A batch makes thousands of objects, and none of them is in a cycle. With the default thresholds (700, 10, 10) the
searches take much of the time in which a backlog is processed.
"""


async def _serve(stop: asyncio.Event, only: app.Role, restarts: int | None) -> int:
    settings, limits = read_settings(), Limits()
    configure(settings.log_level, settings.log_format)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    late = asyncio.create_task(exit_late(stop, limits))
    report: app.Report = served
    if restarts is not None:
        metrics.RESTARTS.labels(only).inc(restarts)
        report = partial(reported, stop)
        if only == "service":
            os.nice(limits.service_nice)
    try:
        await app.run(settings, stop, only, limits=limits, report=report)
    except IncompatibleClient as error:
        click.echo(f"room-worker: {error}", err=True)
        return FAILURE if restarts is None else HOPELESS
    finally:
        late.cancel()
    return OK


serve = until_stopped(_serve, exit_at_once=True)
"""Run a half until it is stopped, and exit; `restarts` is None without a supervisor, and then HTTP is served here."""
