"""The malicious host tells the author of an enclave what a handler of theirs raised."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from client import MailFailed
from host_store.adversary import MaliciousHost
from pmap import Enclave, Mail, Rejected


class Wrong(Enclave):
    """Has a mistake."""

    persistent_map = True

    def receive_mail(self, mail: Mail) -> bytes:
        if mail.body == b"refuse":
            raise Rejected("refused")
        return self.map[mail.body]  # type: ignore[index]  # keys are str: this is the mistake


def test_what_a_handler_raised_is_logged_with_its_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pmap.adversary"), MaliciousHost(Wrong, folder=tmp_path / "host") as host:
        alice = host.client("alice")
        with pytest.raises(MailFailed, match=r"^refused$"):
            alice.send(b"refuse")
        assert caplog.text == ""  # the sender has the text of what the author wanted to say
        with pytest.raises(MailFailed, match=r"^KeyError$"):
            alice.send(b"anything")
    assert "a handler of Wrong raised" in caplog.text and "return self.map[mail.body]" in caplog.text
