"""Write an enclave of your own, run it, and be its client. Run it: python examples/custom_enclave.py

The enclave is the class Bank: its code is what clients attest, and its map survives restarts. Here a host in this
process runs it, with the enclave in a process of its own. To serve it over HTTP instead:

    pmap serve examples.custom_enclave:Bank --store ./bank --simulated-key ./dev.key
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from client import EnclaveClient, InProcessTransport, MailFailed
from host_store.host import EnclaveHost
from pmap import Enclave, Mail, Rejected


class Bank(Enclave):
    """Accounts. A mail is an amount, which is added to its sender's balance; the reply is the new balance."""

    # Settings are part of the code, so that the host cannot change them.
    persistent_map = True
    max_persistent_map_size = "64m"

    def receive_mail(self, mail: Mail) -> bytes:
        """A transaction: if this raises, nothing of it has happened. ``sender`` is the client's public key."""
        balance = int(self.map.get(mail.sender, b"0")) + int(mail.body)
        self.map[mail.sender] = str(balance).encode()
        if balance < 0:
            raise Rejected(f"you would owe us {-balance}")
        return str(balance).encode()


def main() -> int:
    """Two clients use the bank; it is restarted in between."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # The host is given the name, because the enclave's process imports the class by itself.
        with EnclaveHost.start("custom_enclave:Bank", folder / "store", import_from=Path(__file__).parent) as host:
            # With a server it would be EnclaveClient.connect("http://...", ...). A real enclave is named by its code
            # or signer; SEC:INSECURE accepts the simulated TEE.
            with EnclaveClient.connect(
                InProcessTransport(host), constraint="SEC:INSECURE", state=folder / "alice.state"
            ) as alice:
                reply = alice.send(b"25")
                print(f"alice has {reply.payload!r}, by commit {reply.receipt.commit}")
                alice.wait_stable(reply.receipt)  # from here on nobody can take it back unnoticed
                host.restart()  # another incarnation, on the same state: the client takes care of it
                print(f"alice has {alice.send(b'75').payload!r}")

            with EnclaveClient.connect(
                InProcessTransport(host), constraint="SEC:INSECURE", state=folder / "bob.state"
            ) as bob:
                try:
                    bob.send(b"-5")
                except MailFailed as error:
                    print(f"bob was refused: {error}")
                print(f"bob has {bob.send(b'0').payload!r}: what the refused mail had written was undone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
