"""`room-worker check`: tries every setting and every server, and says what is right or how to mend it."""

import asyncio

import click

from worker.cli.check.finding import CheckResult, bounded
from worker.cli.check.mongo import mongo_findings
from worker.cli.check.nats import nats_findings
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import AMISS, OK, WRONG_SETTING, finish
from worker.settings import Settings, WrongSetting, read_settings


@click.command(epilog=example("room-worker check", "SITE_ID=berlin room-worker check --json"))
@json_option
def check(*, as_json: bool) -> None:
    """Try every setting and every server, and say in one line each what is right or how to mend it.

    Nothing is changed. Exit code 0: all is right; 1: something is amiss; 2: a setting is wrong.
    """
    finish(_check(as_json=as_json))


async def _check(*, as_json: bool) -> int:
    try:
        findings = await everything(read_settings())
        code = OK if all(finding.ok for finding in findings) else AMISS
    except WrongSetting as error:
        findings = [CheckResult("settings", ok=False, text=line) for line in str(error).splitlines()]
        code = WRONG_SETTING
    if as_json:
        show_json({"ok": code == OK, "findings": findings})
    else:
        for finding in findings:
            _show(finding)
    return code


async def everything(settings: Settings) -> list[CheckResult]:
    """Return all findings about settings that are valid; within a few seconds, whatever hangs."""
    of_nats, of_mongo = await asyncio.gather(
        bounded("nats", nats_findings(settings)), bounded("mongodb", mongo_findings(settings))
    )
    text = f"valid, for site {settings.site_id}"
    return [CheckResult("settings", ok=True, text=text), *of_nats, *of_mongo]


def _show(finding: CheckResult) -> None:
    mark = ("ok    ", "green") if finding.ok else ("amiss ", "bold red")
    show(mark, f"{finding.part:20} {safe(finding.text)}")
