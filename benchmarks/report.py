"""The tables of docs/performance.md, made from the results of a full run. The text around them is written by hand.

Each table stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.catalogue import PROMISES

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BLOCK: Final = re.compile(r"(<!-- begin ([a-z-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
_KINDS: Final = {
    "commit1": "puts/s, 1 a commit",
    "commit50": "50 a commit",
    "commit1000": "1000 a commit",
    "get": "gets/s of CPU",
    "scan": "scanned/s of CPU",
}


def write_report(results: dict[str, Any], document: Path = DOCUMENT) -> None:
    """Put the results into the document's blocks. Raises :class:`ValueError` unless both have the same ones."""
    document.write_text(filled(document.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(text: str, results: dict[str, Any]) -> str:
    """The document's text with every block made anew."""
    made = blocks(results)
    found = [match[2] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(made):
        raise ValueError(f"the document has blocks {sorted(found)}, the results make {sorted(made)}")
    return BLOCK.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", text)


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """Name -> Markdown."""
    curves = results["curves"]
    return {
        "figures": _figures(results["figures"]),
        "details": _details(results["figures"]),
        "machine": _machine(results["machine"], results["seconds"]),
        "peers": "\n\n".join(_peers(int(count), rates) for count, rates in sorted(curves["peers"].items(), key=_count)),
        "ycsb": table(["", *curves["ycsb"]], _contender_rows(curves["ycsb"])),
        "mail": _mail(curves["mail"]),
        "profiles": _profiles(results["profiles"]),
        "restart": _restart(curves["large"]["restart_mib_s"]),
    }


def _figures(figures: dict[str, Any]) -> str:
    rows = []
    for name, promise in PROMISES.items():
        if name not in figures:
            continue
        found = figures[name]
        bound = f"{'≥' if promise.at_least else '≤'} {promise.bound:g}"
        low, high = found["spread"]
        verdict = "holds" if found["holds"] else "**missed**"
        value = f"{number(found['value'])} {promise.unit}".replace(" x", " ×")
        rows.append([f"`{name}`", promise.meaning, value, f"{number(low)} – {number(high)}", bound, verdict])
    return table(["figure", "what it is", "measured", "middle half of the rounds", "bound", ""], rows)


def _details(figures: dict[str, Any]) -> str:
    lines = []
    for name in PROMISES:
        if name in figures:
            parts = [f"{what} {_value(value)}" for what, value in figures[name]["details"].items()]
            lines.append(f"- `{name}`: {'; '.join(parts)}")
    return "\n".join(lines)


def _machine(machine: dict[str, Any], seconds: float) -> str:
    sync = machine["fdatasync_us"]
    low, high = sync["quartiles"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    rows = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory_gib']} GiB"],
        ["system", f"{machine['system']}, {machine['file_system']}"],
        ["`fdatasync` after overwriting 4 KiB", f"{sync['median']:.0f} µs ({low:.0f} – {high:.0f})"],
        ["load when the run began", f"{machine['load_average']:.1f}"],
        ["Python", f"{machine['python']}; {libraries}"],
        ["the run took", f"{seconds / 60:.0f} minutes"],
    ]
    return table(["", ""], rows)


def _peers(count: int, rates: dict[str, dict[str, float]]) -> str:
    shown = {title: rates[kind] for kind, title in _KINDS.items() if kind in rates}
    rows = _contender_rows(shown)
    # Whole-map sealing was measured with one-put commits only.
    for name, rate in rates.get("whole map", {}).items():
        if name not in _contenders(shown):
            rows.append([name, number(rate), *[""] * (len(shown) - 1)])
    return f"{count:,} entries:\n\n" + table(["", *shown], rows)


def _mail(curves: dict[str, Any]) -> str:
    rows = []
    for clients in sorted(curves, key=int):
        for kind, found in curves[clients].items():
            rows.append([clients, kind, *(number(found[what]) for what in ("mails_per_s", "p50_ms", "p99_ms"))])
    return table(["clients", "", "mails/s", "median, ms", "99 %, ms"], rows)


def _profiles(profiles: dict[str, list[str]]) -> str:
    return "\n\n".join(f"`{name}`:\n\n```text\n" + "\n".join(lines) + "\n```" for name, lines in profiles.items())


def _restart(rows: list[dict[str, Any]]) -> str:
    sizes = sorted({row["live_mib"] for row in rows})
    seconds = {(row["live_mib"], row["small_commits"]): row["seconds"] for row in rows}
    lines = [[str(mib), f"{seconds[mib, False]:.2f}", f"{seconds[mib, True]:.2f}"] for mib in sizes]
    return table(["live MiB", "seconds, after a load", "seconds, after long use"], lines)


# --- Markdown ----------------------------------------------------------------------------------------------


def _contender_rows(groups: dict[str, dict[str, float]]) -> list[list[str]]:
    """A row for each contender, a column for each group."""
    return [
        [name, *(number(rates[name]) if name in rates else "" for rates in groups.values())]
        for name in _contenders(groups)
    ]


def _contenders(groups: dict[str, dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for rates in groups.values() for name in rates))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _value(value: Any) -> str:
    return " – ".join(map(number, value)) if isinstance(value, list) else number(value)


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _count(item: tuple[str, Any]) -> int:
    return int(item[0])
