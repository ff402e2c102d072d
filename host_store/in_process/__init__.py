"""Enclave code in the host's own process: for embedding, development and tests.

The only folder here that imports ``pmap``.
"""
