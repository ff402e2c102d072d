"""Refusals between host and enclave process: which errors cross, as what, and how much of their text."""

from __future__ import annotations

import pytest

from wire.errors import HostUnavailable, MapFull, PmapError, StoreFenced, WrongKey
from wire.limits import MAX_REFUSAL_TEXT_CHARACTERS
from wire.messages import REFUSALS, Declined, Refused


@pytest.mark.parametrize("kind", [Refused, Declined])
@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_an_error_that_may_cross_comes_out_as_the_same(kind: type[Refused | Declined], name: str) -> None:
    said = kind.of(REFUSALS[name]("why it does not"))
    assert type(said) is kind
    assert said == kind(name, "why it does not")
    raised = said.error()
    assert type(raised) is REFUSALS[name]
    assert str(raised) == "why it does not"


@pytest.mark.parametrize("kind", [Refused, Declined])
@pytest.mark.parametrize(
    ("error", "nearest"), [(StoreFenced, "StoreError"), (MapFull, "LimitExceeded"), (HostUnavailable, "PmapError")]
)
def test_any_other_error_comes_out_as_the_nearest_that_may_cross(
    kind: type[Refused | Declined], error: type[PmapError], nearest: str
) -> None:
    assert kind.of(error("why")) == kind(nearest, "why")


@pytest.mark.parametrize("kind", [Refused, Declined])
def test_a_long_text_is_cut_to_what_a_frame_takes(kind: type[Refused | Declined]) -> None:
    longest = "x" * MAX_REFUSAL_TEXT_CHARACTERS
    assert kind.of(WrongKey(longest)).text == longest
    assert kind.of(WrongKey(longest + "y")).text == longest
