"""The reference pages, generated from the code that they describe; `make reference` writes them.

A test fails when a page differs from the code. Operators do not need this, so it is not a subcommand.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, get_args

import click
from prometheus_client import Counter, Gauge, Histogram
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tests.unit.cli.data_model_page import data_model_page
from tests.unit.cli.reasons_page import reasons_page
from worker.cli.commands import room_worker
from worker.limits import Limits
from worker.settings import Settings
from worker.settings.environment import must_be, variable
from worker.telemetry import metrics

_WIDTH: Final = 80
"""Columns of the help texts."""

_HOUR_MS: Final = 3_600_000
_KIB: Final = 1024
_MIB: Final = 1024 * 1024

_LIMIT: Final = re.compile(r'(?:# (.+)\n +)?(\w+): \w+ = .+\n +"""([^"]+)"""')
"""A limit in the source of `Limits`: the title if a section starts here, the name, and the docstring."""


def _settings_page() -> str:
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    return _page(
        "Settings",
        "worker/settings/environment.py",
        "Settings come from environment variables only. An empty variable counts as not set. A wrong setting ends "
        "the program with exit code 2. `room-worker check` validates all settings. Secrets are never printed or "
        "logged. Where the column *secret* says *the file*, the content of the file is secret.",
        _table(("variable", "default", "must be", "secret", "meaning"), rows),
    )


def _commands_page() -> str:
    return _page(
        "Commands",
        "worker/cli",
        "`--help` prints the same texts. [versioning.md](../versioning.md) lists the exit codes.",
        *(f"## {path}\n\n```text\n{text}\n```" for path, text in _help_texts(room_worker, "room-worker", None)),
    )


def _metrics_page() -> str:
    return _page(
        "Metrics",
        "worker/telemetry/metrics.py",
        "Prometheus reads the metrics from `/metrics` at `METRICS_ADDR`. A histogram `x` consists of the series "
        "`x_bucket`, `x_sum` and `x_count`. Labels never name rooms or accounts.",
        _table(("metric", "kind", "labels", "meaning"), _metric_rows()),
    )


def _limits_page() -> str:
    sections: dict[str, list[tuple[str, ...]]] = {}
    title = ""
    for comment, name, meaning in _LIMIT.findall(inspect.getsource(Limits)):
        title = comment or title
        sections.setdefault(title, []).append((f"`{name}`", _amount(name), " ".join(meaning.split())))
    return _page(
        "Limits",
        "worker/limits.py",
        "Limits bound the worker's memory, transactions and waiting. They are constants, not settings.",
        *(f"## {title}\n\n{_table(('limit', 'value', 'meaning'), rows)}" for title, rows in sections.items()),
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": _settings_page,
    "commands.md": _commands_page,
    "metrics.md": _metrics_page,
    "limits.md": _limits_page,
    "reasons.md": reasons_page,
    "data-model.md": data_model_page,
}


def main(folder: Path) -> None:
    """Write every page below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page())


def _page(title: str, source: str, introduction: str, *sections: str) -> str:
    notice = f"Generated from `{source}` by `make reference`. Do not edit: a test compares it with the code."
    wrapper = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join((f"# {title}", wrapper.fill(notice), wrapper.fill(introduction), *sections)) + "\n"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _setting(name: str, field: FieldInfo) -> tuple[object, ...]:
    wanted = must_be(name)
    escaped = re.sub(r"[\\|*<>_]", r"\\\g<0>", wanted.text)
    is_secret = SecretStr in {field.annotation, *get_args(field.annotation)}
    secret = "yes" if is_secret else "the file" if wanted.file_is_secret else "no"
    return f"`{variable(name)}`", _default(name, field), escaped, secret, field.description


def _default(name: str, field: FieldInfo) -> str:
    """Return the default in the form in which the variable is set."""
    match field.default:
        case None:
            return "not set"
        case bool(value):
            text = must_be(name).text.split(" or ")[0 if value else 1]
        case list(values):
            text = ",".join(values)
        case SecretStr() as secret:
            text = secret.get_secret_value()
        case value:
            text = f"{value // _HOUR_MS}h" if name == "grace_ms" else str(value)
    return f"`{text}`"


def _help_texts(command: click.Command, called: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(command, parent, info_name=called, terminal_width=_WIDTH, **command.context_settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (subcommand := command.get_command(context, name)) is not None:
                yield from _help_texts(subcommand, name, context)


def _metric_rows() -> Iterator[tuple[str, ...]]:
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"`{name}`", family.type, labels or "none", family.documentation


def _amount(name: str) -> str:
    value = getattr(Limits(), name)
    if name.endswith("_bytes"):
        return f"{value / _MIB:g} MiB" if value >= _MIB else f"{value / _KIB:g} KiB"
    units = {"_per_s": " per second", "_ms": " ms", "_s": " s"}
    unit = next((unit for ending, unit in units.items() if name.endswith(ending)), "")
    return f"{value:,g}{unit}" if isinstance(value, float) else f"{value:,}{unit}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
