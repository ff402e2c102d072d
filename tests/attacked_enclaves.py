"""Enclaves for the adversarial suites: an enclave process imports them from here."""

from __future__ import annotations

from pmap import Enclave, Mail, Rejected
from wire.padding import at_least


class Ledger(Enclave):
    """Does what the first word of a mail says, and counts the mails that it executed."""

    persistent_map = True
    max_persistent_map_size = "64k"

    def receive_mail(self, mail: Mail) -> bytes | None:
        self.map["executed"] = str(int(self.map.get("executed", b"0")) + 1).encode()
        word, _, rest = mail.body.decode().partition(" ")
        key, _, value = rest.partition(" ")
        match word:
            case "put":
                self.map[key] = value.encode()
                return b"put"
            case "quietly":
                self.map[key] = value.encode()
                return None
            case "get":
                return self.map.get(key, b"nothing")
            case "add":
                # Not idempotent: a second execution shows.
                self.map[key] = str(int(self.map.get(key, b"0")) + int(value)).encode()
                return self.map[key]
            case "delete":
                del self.map[key]
                return b"deleted"
            case "scan":
                return " ".join(f"{k}={v.decode()}" for k, v in self.map.range(key, key + "\U0010ffff")).encode()
            case "fill":
                self.map[key] = bytes(int(value))
                return b"filled"
            case "spoil":
                self.map[key] = b"spoilt"
                del self.map["executed"]
                self.send(mail.sender, b"never sent")
                raise Rejected("spoilt on purpose")
            case "crash":
                self.map[key] = b"spoilt"
                raise KeyError("a secret of somebody else")
            case "mail":
                self.send(key, value.encode())
                return b"mailed"
        return b"done " + mail.body

    def receive_from_host(self, data: bytes) -> bytes | None:
        word, _, rest = data.decode().partition(" ")
        key, _, value = rest.partition(" ")
        if word == "put":
            self.map[key] = value.encode()
        return self.map.get(key)


class Forgetful(Enclave):
    """Keeps no state over restarts."""

    def receive_mail(self, mail: Mail) -> bytes | None:
        return b"done " + mail.body


class Weaker(Ledger):
    """The same code under another setting: records that show more of what is written."""

    max_persistent_map_size = "128k"


class Roomy(Ledger):
    """Has room for 2,000 values of 10 KiB."""

    max_persistent_map_size = "32m"

    def receive_mail(self, mail: Mail) -> bytes | None:
        word, _, rest = mail.body.decode().partition(" ")
        key, _, value = rest.partition(" ")
        if word == "fill":
            self.map[key] = bytes(int(value))
            return b"filled"
        if word == "count":
            return str(len(self.map)).encode()
        return str(len(self.map.get(key, b""))).encode()


class Veiled(Ledger):
    """All its short replies look alike."""

    reply_padding = staticmethod(at_least(1024))


class Voted(Ledger):
    """Three named voters; set by :func:`with_voters`."""


def with_voters(voters: dict[str, int], quorum: int | None = None) -> type[Ledger]:
    """A :class:`Ledger` whose voters are these: another enclave for each choice."""
    return type("Voted", (Voted,), {"voters": voters, "quorum": quorum, "__module__": __name__})


class Patched(Ledger):
    """The next version of the code, without a hole that the first one had."""

    security_version = 2


class Club(Ledger):
    """Whoever comes while it is open is a member; ``remove`` makes somebody none, for as long as this history lasts."""

    def admit(self, client: str) -> bool:
        return "closed" not in self.map

    def receive_mail(self, mail: Mail) -> bytes | None:
        name = f"member {mail.sender}"
        if "closed" not in self.map:
            self.map[name] = b""
        if name not in self.map:
            raise Rejected("removed")
        word, _, rest = mail.body.decode().partition(" ")
        if word == "close":
            self.map["closed"] = b""
            return b"closed"
        if word == "remove":
            del self.map[f"member {rest}"]
            return b"removed"
        return super().receive_mail(mail)
