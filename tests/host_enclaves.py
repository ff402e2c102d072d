"""Enclaves for tests of hosts: an enclave process imports them from here."""

from __future__ import annotations

import os
import sys
import threading

from pmap import Enclave, Mail, Rejected


class Ledger(Enclave):
    """Does what the first word of a mail says."""

    persistent_map = True
    max_persistent_map_size = "128m"

    def receive_mail(self, mail: Mail) -> bytes | None:
        word, _, rest = mail.body.decode().partition(" ")
        return self._act(word, rest)

    def receive_from_host(self, data: bytes) -> bytes | None:
        word, _, rest = data.decode().partition(" ")
        return self._act(word, rest)

    def _act(self, word: str, rest: str) -> bytes | None:
        match word:
            case "put":
                key, _, value = rest.partition(" ")
                self.map[key] = value.encode()
                return b"put"
            case "get":
                return self.map.get(rest)
            case "keys":
                return " ".join(self.map).encode()
            case "count":
                return str(len(self.map)).encode()
            case "reject":
                self.map["undone"] = b"1"
                raise Rejected(rest)
            case "send":
                recipient, _, body = rest.partition(" ")
                self.send(recipient, body.encode())
                return None
            case "print":
                print(rest)
                os.write(1, b"written to the descriptor\n")
                return sys.stdin.read().encode()
            case "exit":
                os._exit(int(rest))
            case "tell":
                # Waits until somebody reads the named pipe.
                with open(rest, "w") as pipe:
                    pipe.write("here")
                return b"told"
            case "hang":
                # Says where it is, through a file that the test waits for, and never comes back.
                with open(rest, "w") as reached:
                    reached.write(str(os.getpid()))
                threading.Event().wait()
        return None


class Echo(Enclave):
    """Keeps no state."""

    def receive_mail(self, mail: Mail) -> bytes | None:
        return mail.body


class BadSettings(Enclave):
    persistent_map = True
    max_persistent_map_size = "a lot"


class FailsToBegin(Enclave):
    persistent_map = True

    def __init__(self) -> None:
        raise RuntimeError("no luck")


class NoEnclave:
    """Not a subclass."""


class NeverReady(Ledger):
    """Hangs while it is made."""

    def __init__(self) -> None:
        threading.Event().wait()
