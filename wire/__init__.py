"""Formats, cryptography and proofs that the enclave, the host and the clients share. No I/O.

Imports none of the other packages. One concept per module; ``docs/spec.md`` is the normative text.
"""
