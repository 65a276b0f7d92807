"""`room-worker check`: prints one line for each check, and exits with 0 if all of them succeed."""

import asyncio
from itertools import chain

import click

from worker.cli.check.mongo import check_mongo
from worker.cli.check.nats import check_nats
from worker.cli.check.result import failed, passed, within_limit
from worker.cli.check.site import check_site
from worker.cli.terminal.output import example, json_option, safe, show, show_json
from worker.cli.terminal.process import FAILURE, OK, WRONG_SETTING, to_end
from worker.settings import WrongSetting, read_settings


@click.command(epilog=example("room-worker check", "SITE_ID=berlin room-worker check --json"))
@json_option
@to_end
async def check(*, as_json: bool) -> int:
    """Check the settings and the servers.

    Validates the settings, connects to each server, and explains how to fix anything that is wrong. Prints one
    line per check and changes nothing. Exit code 0: everything is right. 1: a check failed. 2: a setting is
    wrong.
    """
    try:
        settings = read_settings()
        of_servers = await asyncio.gather(
            within_limit("nats", check_nats(settings)),
            within_limit("mongodb", check_mongo(settings)),
            within_limit("site", check_site(settings)),
        )
        results = [passed("settings", f"valid, for site {settings.site_id}"), *chain(*of_servers)]
        code = OK if all(result.ok for result in results) else FAILURE
    except WrongSetting as error:
        results = [failed("settings", line) for line in str(error).splitlines()]
        code = WRONG_SETTING
    if as_json:
        show_json({"ok": code == OK, "findings": results})
    else:
        for result in results:
            mark = ("ok    ", "green") if result.ok else ("FAIL  ", "bold red")
            mark = ("warn  ", "yellow") if result.warning else mark
            show(mark, f"{result.part:20} {safe(result.text)}")
    return code
