"""A coverage-guided run over the decoders, where atheris is installed.

``PYTHONPATH=tests python tests/fuzz/atheris_targets.py NAME [libFuzzer options]``; without a name, the targets' names.
It begins from the genuine samples; put an input that it finds into ``tests/fuzz/corpus/``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(include=["wire", "pmap", "client", "host_store.lmdb.journal_frame"]):
    from fuzz.targets import check, targets


def main() -> None:
    """Run one target until something is found, or for as long as the options say."""
    by_name = {target.name: target for target in targets()}
    if len(sys.argv) < 2 or sys.argv[1] not in by_name:
        sys.exit("name one of: " + ", ".join(sorted(by_name)))
    target = by_name[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        for number, sample in enumerate(target.samples):
            (Path(folder) / str(number)).write_bytes(sample)
        atheris.Setup([*sys.argv, folder], lambda data: check(target, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
