"""Joins the metrics of several processes, in the text format of Prometheus."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Family:
    comments: list[str] = field(default_factory=list)
    kind: str = ""
    samples: dict[str, str] = field(default_factory=dict)


def merged(texts: Iterable[bytes]) -> bytes:
    """Return all families of the texts: counters and histograms are added up, a gauge is the first text's.

    The processes have the same families, but almost none of them counts in more than one process.
    """
    families: dict[str, _Family] = {}
    for text in texts:
        for family, lines in _families(text.decode()):
            known = families.setdefault(family, _Family())
            is_new = not known.comments
            for line in lines:
                if line.startswith("#"):
                    known.comments += [line] * is_new
                    known.kind = line.rpartition(" ")[2] if line.startswith("# TYPE ") else known.kind
                    continue
                sample, _, value = line.rpartition(" ")
                before = known.samples.get(sample)
                if before is None:
                    known.samples[sample] = value
                elif known.kind != "gauge":
                    known.samples[sample] = str(float(before) + float(value))
    return "".join(f"{line}\n" for family in families.values() for line in _lines(family)).encode()


def _families(text: str) -> Iterable[tuple[str, list[str]]]:
    """Yield the name and the lines of each family; it begins with its `# HELP` line."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP ") and lines:
            yield lines[0].split(" ")[2], lines
            lines = []
        lines.append(line)
    if lines:
        yield lines[0].split(" ")[2], lines


def _lines(family: _Family) -> Iterable[str]:
    yield from family.comments
    for sample, value in family.samples.items():
        yield f"{sample} {value}"
