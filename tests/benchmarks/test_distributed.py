"""The benchmarks of stores on shared engines run, and compare the same bytes."""

from __future__ import annotations

from dataclasses import replace

from shared_engines import need

from benchmarks.distributed import BLOCK, engine_figures
from benchmarks.scale import CLIENTS, QUICK


def test_an_engine_is_measured_beside_itself() -> None:
    need("postgresql")
    (figure,), _curves = engine_figures(["engine_postgresql"], replace(QUICK, engine_rounds=1))
    assert figure.name == "engine_postgresql" and figure.value > 0
    assert figure.details["mails in a commit"] == CLIENTS
    assert figure.details["bytes of a commit"] > CLIENTS * 300
    assert BLOCK > 1
