"""What users of enclaves with persistent state rely on, one scenario each, with the tests that show it.

``python -m conformance.rows`` (with ``tests`` on the path) writes ``docs/conformance.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/conformance.md"
HERE = "tests/conformance"
FILES = "tests/pmap/filesystem"
STORED_FILES = "tests/host_store/filesystem"


@dataclass(frozen=True, slots=True)
class Scenario:
    """``tests``: each ``file::name``. ``other``: what is different here, and why that is better."""

    name: str
    tests: tuple[str, ...]
    other: str = ""


def _of(module: str, *rows: tuple[str, str] | tuple[str, str, str]) -> tuple[Scenario, ...]:
    """Rows of scenario, test names (those of ``module`` without a file, others with one), and what is different."""
    scenarios = []
    for row in rows:
        tests = tuple(name if "::" in name else f"{module}::{name}" for name in row[1].split())
        scenarios.append(Scenario(row[0], tests, row[2] if len(row) > 2 else ""))
    return tuple(scenarios)


SECTIONS: dict[str, tuple[Scenario, ...]] = {
    "Map": _of(
        f"{HERE}/test_map.py",
        (
            "new, modified, deleted, modified and then deleted entries; each all in one mail, with a restart after"
            " each, with one before the read",
            "test_changes_survive_restarts",
        ),
        (
            "off by default; then no state leaves, and clients get no checkpoints",
            "test_it_is_off_by_default_and_then_no_state_leaves_and_clients_get_no_checkpoints",
        ),
        (
            "the host cannot take 1, 2 or 3 states back once a client had a reply, nor when the handler gave none",
            "test_the_host_cannot_take_states_back",
            "every mail has a receipt, also one that the handler answers with nothing",
        ),
        ("what a call of the host changes persists", "test_what_a_call_of_the_host_changes_persists"),
        ("a map over its size is refused at the put", "test_a_map_over_its_size_is_refused_at_the_put"),
        (
            "10 concurrent senders, 200 puts of 10 KiB each, 3 restarts",
            "test_many_senders_with_large_values_and_restarts",
        ),
    ),
    "Client": _of(
        f"{HERE}/test_client.py",
        ("the constraint is checked at the start", "test_the_constraint_is_checked_at_the_start"),
        (
            "and again after the enclave restarted",
            "test_the_constraint_is_checked_again_after_the_enclave_restarted",
        ),
        ("mail with and without a response", "test_mail_with_and_without_a_response"),
        ("asynchronous mail is polled", "test_asynchronous_mail_is_polled"),
        ("a restart is told, once", "test_a_restart_is_told_once"),
        (
            "a rollback raises, and by explicit choice is accepted",
            "test_a_rollback_raises_and_by_explicit_choice_is_accepted"
            " tests/attacks/test_code.py::test_row_81_a_restore_that_nobody_allowed",
            "a client can only choose for itself; the others see the rollback all the same",
        ),
        ("state saved and restored before and after 0, 1 and 2 round trips", "test_a_saved_client_goes_on"),
    ),
    "Mail": _of(
        f"{HERE}/test_mail.py",
        ("sequence numbers start at zero", "test_numbers_start_at_zero"),
        ("a number again, backwards, beyond a gap", "test_a_number_again_backwards_and_beyond_are_refused"),
        ("topics and senders are independent", "test_topics_and_senders_are_independent"),
        ("corruption of every byte is refused", "test_every_byte_that_is_altered_is_noticed"),
        ("truncation", "test_truncation_is_noticed"),
        ("wrong keys", "test_wrong_keys_open_nothing"),
        (
            "several outgoing mails and the state leave together",
            "test_outgoing_mails_and_the_state_leave_together",
        ),
        (
            "an exception in one mail has no effect on the next",
            "test_an_exception_in_one_mail_has_no_effect_on_the_next test_what_a_failed_mail_says_of_others_is_nothing",
            "the exception also undoes what the handler had changed",
        ),
        (
            "bodies from 0 bytes to 50 MiB",
            "test_bodies_of_every_size test_a_payload_over_the_bound_fails_its_own_mail_only",
        ),
        ("bad topics", "test_bad_topics_are_refused_before_anything_leaves"),
        ("policies for padding", "test_padding_policies test_replies_are_padded_as_the_author_says"),
        ("executed, failed and refused are told apart", "test_outcomes_are_told_apart"),
    ),
    "Host and web": _of(
        f"{HERE}/test_host_and_web.py",
        ("no, one and two responses; the second one is asynchronous", "test_no_one_and_two_responses"),
        ("many clients with buffered responses", "test_many_clients_with_buffered_responses"),
        (
            "what cannot be decrypted is 400, with a typed error",
            "test_what_cannot_be_decrypted_is_400_with_a_typed_error",
        ),
        (
            "a handler that fails is a typed error",
            "test_a_handler_that_fails_is_a_typed_error_for_its_sender",
            "it reaches its sender encrypted; the host does not learn of it",
        ),
        (
            "`GET /attestation`, `POST /deliver-mail`, `POST /poll-mail`",
            "test_the_web_interface_has_the_three_known_calls",
        ),
        (
            "a correlation id that is not derivable from a key",
            "test_the_address_of_a_session_is_not_derived_from_any_key",
        ),
    ),
    "Sealing": _of(
        f"{HERE}/test_sealing.py",
        ("the same enclave, a new instance: opens", "test_a_new_instance_of_the_same_enclave_opens_it"),
        (
            "other code of the same signer: by policy",
            "test_other_code_of_the_same_signer_opens_it_and_the_clients_decide"
            " tests/pmap/test_sealing_policy.py::test_a_store_sealed_to_the_code_opens_for_that_code_only"
            " tests/pmap/test_sealing_policy.py::test_older_code_refuses_newer_state",
            "older code is refused even where the TEE would give it the key",
        ),
        (
            "another signer or platform: refused",
            "test_another_platform_or_signer_does_not_open_it"
            " tests/pmap/test_sealing_policy.py"
            "::test_a_store_sealed_to_the_signer_opens_for_no_other_signer_product_or_platform",
        ),
        ("an embedded map: its own key only", "test_an_embedded_map_opens_with_its_own_key_only"),
    ),
    "Filesystem": _of(
        f"{FILES}/test_calls.py",
        (
            "files in memory are gone after a restart, persistent ones are there",
            f"{STORED_FILES}/test_embedded_store.py::test_files_in_memory_stand_beside_and_are_gone_afterwards"
            f" {STORED_FILES}/test_embedded_store.py::test_files_and_map_are_kept_over_restarts_under_one_checkpoint",
        ),
        (
            "missing store, corrupted image, changed size: each its own error",
            f"{STORED_FILES}/test_embedded_store.py"
            "::test_a_missing_store_a_corrupted_one_and_a_changed_size_are_errors_of_their_own",
        ),
        ("`/tmp` is the memory, `/tmptest` is persistent", "test_only_tmp_itself_is_the_memory"),
        (
            "create, delete, nest; directories go only when empty",
            "test_directories_nest_and_go_only_when_empty",
        ),
        (
            "rename to itself, to existing, to nonexistent; empty and other directories",
            "test_rename_to_self_changes_nothing test_rename_to_existing_replaces_files_and_empty_directories_only"
            " test_rename_of_what_is_not_there_or_to_nowhere_fails test_a_renamed_directory_keeps_what_is_in_it",
        ),
        ("across mounts: `EXDEV`, and `shutil.move` works", "test_move_works_where_rename_says_exdev"),
        ("links", "test_there_are_no_links"),
        (
            "append, offset, buffered and byte-wise access",
            "test_appends_go_to_the_end_wherever_the_position_is test_byte_wise_and_whole_access_see_the_same"
            f" {FILES}/test_exerciser.py::test_a_file_holds_what_was_written_through_everything",
        ),
        ("many files; threads", "test_many_files_in_one_directory test_threads_write_files_at_once"),
        (
            "SQL inside the enclave, over restarts",
            f"{FILES}/test_sqlite.py::test_an_enclaves_database_follows_its_mails_and_restarts",
        ),
        (
            "overwriting never uses a nonce again",
            f"{FILES}/test_trace.py::test_overwriting_a_file_never_repeats_a_ciphertext",
        ),
        (
            "a full disk is full after it was opened again",
            "test_a_full_disk_is_full_after_a_restart_and_empty_after_the_files_are_gone",
        ),
        ("reading writes nothing", f"{FILES}/test_transactions.py::test_reading_writes_nothing"),
        (
            "sizes that are no power of two use their full range",
            "test_sizes_that_are_no_power_of_two_use_their_full_range",
        ),
        (
            "formatting shows nothing of the order",
            f"{FILES}/test_trace.py::test_formatting_is_one_small_record_whatever_the_size",
        ),
        (
            "the host cannot force a reformat",
            f"{STORED_FILES}/test_embedded_store.py::test_the_host_cannot_force_a_reformat",
        ),
    ),
}

_HEAD = """\
# Scenarios that users of enclaves rely on

Whoever comes from another framework for enclaves expects these to work. Each has its tests, and where something is
different here, the last column says what and why. This page is made from `tests/conformance/rows.py`, and a test
compares the two.
"""


def page() -> str:
    """``docs/conformance.md``."""
    lines = [_HEAD]
    for title, scenarios in SECTIONS.items():
        lines.append(f"\n## {title}\n\n| scenario | tests | different here |\n|---|---|---|\n")
        for one in scenarios:
            tests = "<br>".join(f"`{test}`" for test in one.tests)
            lines.append(f"| {one.name} | {tests} | {one.other} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
