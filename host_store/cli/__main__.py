"""``python -m host_store.cli`` is ``pmap``, also where no script is installed."""

from host_store.cli import main

main(prog_name="pmap")
