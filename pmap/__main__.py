"""``python -m pmap MODULE:CLASS``: an enclave as a process, speaking frames with its host over stdin and stdout."""

from __future__ import annotations

import sys

from pmap.process import main

if __name__ == "__main__":
    sys.exit(main())
