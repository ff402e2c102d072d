"""What a mail costs an engine is counted by a command, and its page says what that counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine_costs import held_by_records, held_by_replies, mail_costs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stores.md"


def test_a_reply_waits_for_one_round_trip_whose_bytes_are_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    one, four = mail_costs(1, commits=20), mail_costs(4, commits=20)
    assert (one.mails, one.trips, four.mails, four.trips) == (1, 1, 4, 1)
    assert f"| of it: the record | {one.record:,.0f} |" in page
    assert f"| of it: each reply | {one.reply:,.0f} |" in page
    assert one.reply == four.reply
    assert one.entry > one.record + one.reply + one.place
    assert four.entry > four.record + 4 * (four.reply + four.place)


def test_what_a_host_holds_for_its_log_is_bounded_for_each_item() -> None:
    record, shared, alone = held_by_records(), held_by_replies(16), held_by_replies(1)
    assert 0 < record.index < shared.index < alone.index < 50
    assert 0 < record.memory < shared.memory < alone.memory < 1000
