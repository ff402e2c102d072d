"""Which modules are mutated together, and which tests have to notice."""

from __future__ import annotations

from typing import Final, NamedTuple


class Group(NamedTuple):
    """Modules, the tests that concern them, and further arguments for pytest."""

    modules: list[str]
    tests: list[str]
    options: tuple[str, ...] = ()


_PLAIN = ("-m", "not hypothesis")
"""Hypothesis shrinks what it finds, which costs more than to find it: plain tests have to notice by themselves."""
_SLOW = "stays_within or large_and_small or altered_large or (random_schedules and not seed0)"
_LOG = (*_PLAIN, "-k", f"not ({_SLOW})")
_INTEL_TESTS = ["tests/wire/test_intel_evidence.py", "tests/wire/test_recorded_evidence.py"]
_NOT_EVERY_BYTE = ("-k", "not flipped")
_LOG_TESTS = ["tests/pmap/test_log.py", "tests/pmap/test_freshness.py"]

GROUPS: Final = {
    "freshness": Group(["pmap/freshness.py"], ["tests/pmap/test_freshness.py"]),
    "log": Group(["pmap/log.py"], _LOG_TESTS, _LOG),
    "replay": Group(["pmap/replay.py"], _LOG_TESTS, _LOG),
    "sweep": Group(["pmap/sweep.py", "pmap/history.py"], _LOG_TESTS, _LOG),
    "mail": Group(["wire/mail.py"], ["tests/wire/test_mail.py"]),
    "record": Group(["wire/record.py"], ["tests/wire/test_record.py"]),
    "checkpoint": Group(["wire/checkpoint.py"], ["tests/wire/test_checkpoint.py"], _PLAIN),
    "frames": Group(
        ["wire/frames.py", "wire/frame_commands.py", "wire/frame_effects.py", "wire/frame_fields.py"],
        ["tests/wire/test_frames.py"],
        _PLAIN,
    ),
    "codec": Group(["wire/codec.py"], ["tests/wire/test_codec.py"], _PLAIN),
    "merkle": Group(["wire/merkle.py"], ["tests/wire/test_merkle.py"], _PLAIN),
    "messages": Group(["wire/messages.py"], ["tests/wire/test_messages.py"]),
    "alarm": Group(["wire/alarm.py"], ["tests/wire/test_alarm.py"], _PLAIN),
    "kv": Group(["wire/kv.py"], ["tests/wire/test_kv.py"], _PLAIN),
    "kv_results": Group(["wire/kv_results.py"], ["tests/wire/test_kv.py"], _PLAIN),
    "shard_map": Group(["wire/shard_map.py"], ["tests/wire/test_shard_map.py"], _PLAIN),
    "padding": Group(["wire/padding.py"], ["tests/wire/test_padding.py"]),
    "hpke": Group(["wire/hpke.py"], ["tests/wire/test_hpke.py"]),
    "crypto": Group(["wire/crypto.py"], ["tests/wire/test_crypto.py"]),
    "opening": Group(["pmap/opening.py"], ["tests/pmap/test_opening.py"]),
    "constraint": Group(["wire/constraint.py"], ["tests/wire/test_constraint.py"], _PLAIN),
    "cbor": Group(["wire/cbor.py"], ["tests/wire/test_cbor.py"]),
    "attestation": Group(["wire/attestation.py"], ["tests/wire/test_attestation.py"]),
    "state": Group(["client/state.py"], ["tests/client/test_state.py"], _PLAIN),
    "refusal": Group(
        ["wire/refusal.py", "wire/shard_refusals.py", "wire/simulated.py"],
        ["tests/wire/test_refusal.py", "tests/wire/test_simulated_evidence.py"],
    ),
    "sizes": Group(["wire/sizes.py"], ["tests/wire/test_sizes.py"], _PLAIN),
    "keyring": Group(["pmap/keyring.py"], ["tests/pmap/test_keyring.py"]),
    "invite": Group(["client/invite.py"], ["tests/client/test_invite.py"]),
    "http": Group(["client/http_interface.py"], ["tests/client/test_http_interface.py"]),
    "der": Group(["wire/tee/der.py"], ["tests/wire/test_der.py"]),
    "snp": Group(["wire/tee/snp.py", "wire/tee/snp_report.py"], ["tests/wire/test_snp_evidence.py"]),
    "x509": Group(
        ["wire/tee/x509.py"],
        ["tests/wire/test_x509.py", "tests/wire/test_snp_evidence.py", "tests/wire/test_nitro_evidence.py"],
    ),
    "endorsements": Group(["wire/tee/endorsements.py"], ["tests/wire/test_endorsements.py"]),
    "nitro": Group(["wire/tee/nitro.py"], ["tests/wire/test_nitro_evidence.py"]),
    "intel_quote": Group(["wire/tee/intel_quote.py"], ["tests/wire/test_intel_quote.py"]),
    "dstack": Group(["wire/tee/dstack.py"], ["tests/wire/test_dstack.py", "tests/wire/test_intel_evidence.py"]),
    "choice": Group(["wire/tee/choice.py"], ["tests/wire/test_choice.py"]),
    "state_file": Group(["client/state_file.py"], ["tests/client/test_state_file.py"]),
    "verify": Group(["wire/tee/verify.py"], ["tests/wire/test_verify.py", *_INTEL_TESTS], _NOT_EVERY_BYTE),
    "intel": Group(["wire/tee/intel.py"], ["tests/wire/test_collateral.py", *_INTEL_TESTS], _NOT_EVERY_BYTE),
}
