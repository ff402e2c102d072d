"""The choice among TEEs: what goes together, and how it travels on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wire.errors import InvalidInput
from wire.tee.choice import TEES, TeeChoice

KEY = Path("key")


@pytest.mark.parametrize("kind", ["", "auto", "sgx", "SNP"])
def test_a_tee_that_there_is_not_is_refused_with_those_that_there_are(kind: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TeeChoice(kind)
    assert str(refused.value) == f"there is no TEE {kind!r}: there are simulated, gramine, snp, tdx, dstack, nitro"


@pytest.mark.parametrize(
    ("option", "what", "kinds"),
    [
        ({"key_source": ""}, "a key source", {"snp", "tdx", "nitro"}),
        ({"key_source": "vtpm"}, "a key source", {"snp", "tdx", "nitro"}),
        ({"dstack_socket": KEY}, "a dstack socket", {"dstack"}),
        ({"simulated_key": KEY}, "a simulated key", {"simulated"}),
        ({"simulated_signer": ""}, "a simulated signer", {"simulated"}),
        ({"simulated_signer": "the bank"}, "a simulated signer", {"simulated"}),
        ({"root": KEY}, "a root folder", {"gramine", "snp", "tdx", "dstack", "nitro"}),
    ],
)
def test_an_option_is_refused_beside_a_tee_that_has_no_use_for_it(
    option: dict[str, Any], what: str, kinds: set[str]
) -> None:
    accepted = set()
    for kind in TEES:
        try:
            TeeChoice(kind, **option)
        except InvalidInput as refused:
            assert str(refused) == f"the TEE {kind!r} has no use for {what}"
        else:
            accepted.add(kind)
    assert accepted == kinds


@pytest.mark.parametrize(
    ("choice", "arguments"),
    [
        (TeeChoice(), []),
        (TeeChoice("nitro"), ["--tee", "nitro"]),
        (TeeChoice("tdx", Path("/x"), "vtpm"), ["--tee", "tdx", "--tee-root", "/x", "--key-source", "vtpm"]),
        (TeeChoice("dstack", dstack_socket=KEY), ["--tee", "dstack", "--dstack-socket", "key"]),
        (
            TeeChoice(simulated_key=KEY, simulated_signer="the bank"),
            ["--simulated-key", "key", "--simulated-signer", "the bank"],
        ),
    ],
)
def test_a_choice_travels_as_arguments(choice: TeeChoice, arguments: list[str]) -> None:
    assert choice.arguments() == arguments
