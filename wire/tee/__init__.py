"""TEE evidence: its formats and its verification, one module per kind. No I/O: time and collateral are parameters.

``verify_evidence`` in :mod:`wire.tee.verify` is the one door. Here rather than in the client, because an enclave
that hands its secrets to a successor verifies evidence too.
"""
