"""Stores on engines that many machines reach: PostgreSQL, etcd, S3.

One store, :class:`host_store.stores.log_store.LogStore`, is a log of immutable objects. What it asks of an engine is
little (:class:`host_store.stores.engine.Engine`): create an object under a name that is free, read, list, delete. Each
engine has a module of its own and is an extra of its own; :func:`host_store.stores.url.open_store` picks it by URL.
"""
