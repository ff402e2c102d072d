"""The plots of docs/performance.md, as SVG that can be read on a light and on a dark page.

A plot has no background of its own. Its text and lines are a grey that stands out from both, and its colours are those
of Okabe and Ito, which people with any kind of colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.mail import CORE, CORE_WITHOUT, ECHO, HTTP, HTTP_WITHOUT
from benchmarks.peers import AES_GCM, FULL, LEVELDB, LMDB, OURS, ROCKSDB, SQLCIPHER, SQLITE
from benchmarks.scale import PEER_COUNT
from benchmarks.storage import LMDB_EACH

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "img" / "performance"
_GREY: Final = "#808890"
_COLOURS: Final = {
    OURS: "#0072B2",
    FULL: "#D55E00",
    LMDB: "#56B4E9",
    LMDB_EACH: "#A3C7DD",
    AES_GCM: "#009E73",
    SQLCIPHER: "#CC79A7",
    SQLITE: "#E69F00",
    ROCKSDB: "#8C8C00",
    LEVELDB: "#A0522D",
    HTTP: "#0072B2",
    HTTP_WITHOUT: "#56B4E9",
    CORE: "#009E73",
    CORE_WITHOUT: "#8CCFB7",
    ECHO: "#E69F00",
}
_SIZE: Final = (7.2, 4.0)  # inches
_STYLE: Final[Any] = {
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "pmap",  # the same input makes the same file
    "font.size": 10,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GREY,
    "grid.alpha": 0.25,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def draw_all(results: dict[str, Any]) -> list[Path]:
    """Draw everything that a full run's results hold; returns the files."""
    curves = results["curves"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, Callable[[Axes], None]]] = [
        ("cost", lambda axes: _cost(axes, curves["large"]["flat_cost"])),
        ("peers-commit", lambda axes: _peers(axes, curves["peers"], "puts per second, durable", _COMMITS)),
        ("peers-read", lambda axes: _peers(axes, curves["peers"], "entries per CPU second", _READS)),
        ("ycsb", lambda axes: _bars(axes, curves["ycsb"], "operations per second, writes durable")),
        ("mail", lambda axes: _mail(axes, curves["mail"])),
        ("latency", lambda axes: _latency(axes, curves["mail"])),
        ("restart", lambda axes: _restart(axes, curves["large"]["restart_mib_s"])),
        ("space", lambda axes: _space(axes, curves["bytes"])),
    ]
    files = []
    for name, draw in drawn:
        files.append(FOLDER / f"{name}.svg")
        with _plot(files[-1]) as axes:
            draw(axes)
    return files


@contextmanager
def _plot(file: Path) -> Iterator[Axes]:
    with matplotlib.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
        yield axes
        figure.savefig(file, metadata={"Date": None})  # so that the same results make the same file
        pyplot.close(figure)


_COMMITS: Final = {"commit1": "1 put a commit", "commit50": "50 puts", "commit1000": "1000 puts"}
_READS: Final = {"get": "random gets", "scan": "scan of everything"}


def _cost(axes: Axes, curve: dict[str, dict[str, float]]) -> None:
    for name, key in ((OURS, "incremental"), (FULL, "full")):
        points = sorted((int(count), 1e6 * seconds) for count, seconds in curve[key].items())
        axes.loglog(*zip(*points, strict=True), marker="o", label=name, color=_COLOURS[name], linewidth=2)
    axes.set_xlabel("entries in the map (100-byte values)")
    axes.set_ylabel("µs of CPU for a one-put commit")
    axes.legend()


def _peers(axes: Axes, curves: dict[str, Any], unit: str, kinds: dict[str, str]) -> None:
    at_count = curves[str(PEER_COUNT)]
    _bars(axes, {title: at_count[kind] for kind, title in kinds.items()}, f"{unit}, {PEER_COUNT:,} entries")


def _bars(axes: Axes, groups: dict[str, dict[str, float]], unit: str) -> None:
    """Groups of bars, one for each contender, on a logarithmic scale."""
    contenders = list(dict.fromkeys(name for rates in groups.values() for name in rates))
    width = 0.85 / max(1, len(contenders))
    for number, name in enumerate(contenders):
        places = [place + number * width for place, rates in enumerate(groups.values()) if name in rates]
        heights = [rates[name] for rates in groups.values() if name in rates]
        axes.bar(places, heights, width * 0.92, label=name, color=_COLOURS[name])
    axes.set_yscale("log")
    axes.set_xticks([place + 0.425 - width / 2 for place in range(len(groups))], list(groups))
    axes.set_ylabel(unit)
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0)


def _mail(axes: Axes, curves: dict[str, Any]) -> None:
    _lines(axes, curves, (CORE, CORE_WITHOUT, HTTP, HTTP_WITHOUT, ECHO), "mails_per_s")
    axes.set_ylabel("durable mails per second")


def _latency(axes: Axes, curves: dict[str, Any]) -> None:
    _lines(axes, curves, (HTTP, HTTP_WITHOUT, ECHO), "p50_ms", suffix=", median")
    _lines(axes, curves, (HTTP, HTTP_WITHOUT, ECHO), "p99_ms", suffix=", 99 %", style="--")
    axes.set_yscale("log")
    axes.set_ylabel("ms until a mail is answered")


def _lines(
    axes: Axes, curves: dict[str, Any], kinds: Iterable[str], what: str, *, suffix: str = "", style: str = "-"
) -> None:
    clients = sorted(map(int, curves))
    for kind in kinds:
        heights = [curves[str(count)][kind][what] for count in clients]
        axes.plot(clients, heights, style, marker="o", label=kind + suffix, color=_COLOURS[kind], linewidth=2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(clients, list(map(str, clients)))
    axes.set_xlabel("concurrent clients")
    axes.legend(fontsize=8)


def _restart(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for small, label, colour in ((False, "after a load", _COLOURS[OURS]), (True, "after long use", _COLOURS[FULL])):
        points = sorted((row["live_mib"], row["seconds"]) for row in rows if row["small_commits"] is small)
        axes.loglog(*zip(*points, strict=True), marker="o", label=label, color=colour, linewidth=2)
    sizes = sorted({row["live_mib"] for row in rows})
    axes.plot(sizes, [size / 150 for size in sizes], ":", color=_GREY, label="150 MiB/s")
    axes.set_xlabel("live MiB")
    axes.set_ylabel("seconds until the first mail is served")
    axes.legend()


def _space(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for puts, colour in zip(
        dict.fromkeys(row["puts"] for row in rows), (_COLOURS[OURS], _COLOURS[AES_GCM]), strict=True
    ):
        mine = [row for row in rows if row["puts"] == puts]
        writes = [row["writes"] for row in mine]
        label = f"{puts} put{'s' * (puts > 1)} a commit"
        axes.plot(writes, [row["used"] for row in mine], color=colour, label=label, linewidth=2)
        axes.plot(writes, [row["window"] for row in mine], "--", color=colour, label=f"{label}, records alone")
    axes.axhline(2.5, linestyle=":", color=_GREY, label="bound")
    axes.set_xlabel("writes per entry (at the end, half of all entries are deleted)")
    axes.set_ylabel("pages in use / live bytes")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
