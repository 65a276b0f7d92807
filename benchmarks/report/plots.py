"""The plots of `benchmarks/plots`, as SVG."""

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "room-worker", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of the backend

from benchmarks.report.samples import Samples, percentile  # noqa: E402

_OURS: Final = "#1b6ca8"
_DRAWN: Final = 0.98
"""The share of the removals that a latency plot shows; the longest few would squeeze all others."""

_OTHERS: Final = "#b0b7bf"


def draw(samples: Samples, folder: Path) -> None:
    """Draw every plot into a folder."""
    folder.mkdir(exist_ok=True)
    _bars(
        samples,
        folder / "sending.svg",
        {"taken": "recipients per second, no subscriber", "received": "recipients per second, one subscriber"},
    )
    _bars(
        samples,
        folder / "working.svg",
        {"read": "accounts per second from the database", "backlog": "removals per second, rooms of ten"},
    )
    _latencies(samples, folder / "latency.svg")
    _growth(samples, folder / "growth.svg")


def _bars(samples: Samples, path: Path, measures: dict[str, str]) -> None:
    """Draw the median of every peer, with the spread of the rounds."""
    figure, panels = plt.subplots(1, len(measures), figsize=(9, 2.6))
    for panel, (measure, title) in zip(panels, measures.items(), strict=True):
        peers = [peer for peer in reversed(samples.peers(measure)) if peer != "memcpy"]
        found = [(peer, spread) for peer in peers if (spread := samples.spread(measure, peer)) is not None]
        medians = [spread.median for _, spread in found]
        spread_bars = [[s.median - s.low for _, s in found], [s.high - s.median for _, s in found]]
        colours = [_OURS if peer == "ours" else _OTHERS for peer, _ in found]
        panel.barh([peer for peer, _ in found], medians, xerr=spread_bars, color=colours, ecolor="#555555")
        panel.set_title(title, loc="left", fontsize=9)
        panel.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
    _save(figure, path)


def _latencies(samples: Samples, path: Path) -> None:
    """Draw the cumulative distribution of the latency of removals."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.6))
    for panel, (measure, title) in zip(
        panels,
        {"room": "one removal in a room, ms", "room of ten": "one removal in a room of ten, ms"}.items(),
        strict=True,
    ):
        for peer in samples.peers(measure):
            panel.ecdf(samples.of(measure, peer), label=peer, color=_OURS if peer == "ours" else "#666666")
        panel.set_title(title, loc="left", fontsize=9)
        longest = max(percentile(samples.of(measure, peer), _DRAWN) for peer in samples.peers(measure))
        panel.set_xlim(0, longest * 1.1)
        panel.legend(frameon=False)
    _save(figure, path)


def _growth(samples: Samples, path: Path) -> None:
    """Draw the cost of one recipient or event as the numbers grow."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.6))
    for panel, measure, title in (
        (panels[0], "by size", "µs per recipient, by members of a room"),
        (panels[1], "by backlog", "µs per event, by events in the backlog"),
    ):
        sizes = samples.sizes(measure)
        costs = [1e6 / found.median for size in sizes if (found := samples.spread(measure, "ours", size))]
        panel.plot(sizes, costs, marker="o", color=_OURS)
        panel.set_xscale("log")
        panel.set_ylim(0, max(costs, default=1) * 1.2)
        panel.set_title(title, loc="left", fontsize=9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
