"""The store in a folder: LMDB (:mod:`~host_store.lmdb.lmdb_store` is the way in), and a journal in front of it."""
