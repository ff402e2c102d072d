"""The enclave side: what runs inside the TEE. Bytes in, ordered effects out.

To write an enclave, subclass :class:`Enclave`; to embed the store without mail, see ``host_store.open_map``.
"""

from pmap.enclave import Enclave, Mail, Rejected
from pmap.map import PersistentMap

__all__ = ["Enclave", "Mail", "PersistentMap", "Rejected"]
