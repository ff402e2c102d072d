"""``pmap shards``: found a cluster of stores, look at it, move partitions between its stores."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from wire.errors import InvalidInput, PmapError

if TYPE_CHECKING:
    from client.sharded.mover import Mover
    from wire.shard_map import ShardMap, ShardStore

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULT_FOLDER: Final = Path("~", ".pmap", "shards")
_DEFAULT_PARTITIONS: Final = 1024
_RANGE: Final = re.compile(r"(0|[1-9][0-9]{0,4})(?:-(0|[1-9][0-9]{0,4}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the owner keeps what moves shards: folder, key, and the map for everybody."""

    folder: Path
    key: Path
    text: Path
    constraint: str

    @contextmanager
    def mover(self, *, found: str | None = None) -> Iterator[Mover]:
        """The mover on the kept map, or on a first one.

        The map for everybody is written before a store gets it: a client is refused that shows an older one than it
        has seen, and after an interruption it must not be this folder's that is older.
        """
        from client.output_file import output_file
        from client.sharded.cluster import Cluster
        from client.sharded.keeping import MAP_FILE
        from client.sharded.mover import Mover
        from client.sharded.owner import owner_key
        from wire.shard_map import shard_map_text

        if found is None and not (self.folder / MAP_FILE).exists():
            raise InvalidInput(
                f"there is no cluster in {self.folder}: found one with 'pmap shards create', or name the folder of"
                " another with --folder or in PMAP_SHARDS"
            )
        key = owner_key(self.key, create=False)
        with Cluster.open(key.public.hex(), found, folder=self.folder, constraint=self.constraint) as cluster:
            published = b""

            def publish() -> None:
                nonlocal published
                if (signed := cluster.router.signed) != published:
                    with output_file(str(self.text)) as file:
                        file.write(shard_map_text(signed).encode() + b"\n")
                    published = signed

            with _progress() as show:

                def step(what: str) -> None:
                    publish()
                    show(what)

                yield Mover(cluster, key, step)
            publish()


def shard_options(command: _Command) -> _Command:
    """Give a command the option ``place``: a :class:`Place`."""

    def with_place(folder: Path | None, owner_key: Path | None, constraint: str | None, **rest: Any) -> Any:
        if constraint is None:
            raise click.UsageError(
                "Say which enclaves you accept, with --constraint or in PMAP_CONSTRAINT, such as SEC:INSECURE for the"
                " simulated TEE."
            )
        where = folder or _DEFAULT_FOLDER.expanduser()
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Place(where, owner_key or where / "owner.key", where / "shards.map", constraint)
        return command(place=place, **rest)

    with_place.__name__, with_place.__doc__ = command.__name__, command.__doc__
    wrapped: Any = with_place
    wrapped.__click_params__ = getattr(command, "__click_params__", [])
    for option in (
        click.option(
            "--constraint",
            metavar="TEXT",
            envvar="PMAP_CONSTRAINT",
            show_envvar=True,
            help="Which enclaves to accept; SEC:INSECURE accepts the simulated TEE.",
        ),
        click.option(
            "--owner-key",
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The key that signs the map: FOLDER/owner.key unless said.",
        ),
        click.option(
            "--folder",
            metavar="FOLDER",
            envvar="PMAP_SHARDS",
            type=click.Path(file_okay=False, path_type=Path),
            show_default=str(_DEFAULT_FOLDER),
            show_envvar=True,
            help="The newest map and this mover's evidence; the map for everybody is in FOLDER/shards.map.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


@click.group()
def shards() -> None:
    """Spread keys over many stores, and move them between stores.

    A shard map, signed with the owner's key, says which store owns which partition of the keys. Each store enforces
    it: a host cannot move anything, and a client with an old map is told so.

    \b
    Two stores that run, then one more:
      pmap shards create http://127.0.0.1:8081 http://127.0.0.1:8082
      pmap shards show
      pmap shards add http://127.0.0.1:8083
      pmap shards rebalance

    If a command is interrupted at any point, 'pmap shards resume' brings it to its end.
    """


@shards.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option(
    "--partitions",
    type=click.IntRange(1, 65_536),
    default=_DEFAULT_PARTITIONS,
    show_default=True,
    help="How many parts the keys come in, for ever: some hundred for each store that there will ever be.",
)
@shard_options
def create(urls: tuple[str, ...], partitions: int, place: Place) -> None:
    """Found a cluster of the stores at these addresses. They must be empty, but for a single one.

    Makes the owner's key if there is none. Keep it safe: whoever has it can move every partition.
    """
    from client.sharded.keeping import MAP_FILE
    from client.sharded.owner import owner_key
    from wire.crypto import system_randomness
    from wire.shard_map import CLUSTER_BYTES, ShardMap, shard_map_text, sign_shard_map

    if (place.folder / MAP_FILE).exists():
        raise InvalidInput(
            f"there is a cluster in {place.folder}: go on with 'pmap shards resume', or name another folder"
        )
    stores = [_store_at(url, place.constraint) for url in urls]
    key = owner_key(place.key, create=True)
    first = ShardMap.found(key.public, system_randomness(CLUSTER_BYTES), stores, partitions)
    with place.mover(found=shard_map_text(sign_shard_map(key, first))) as mover:
        mover.settle()
    click.echo(f"founded: {len(stores)} stores, {partitions} partitions")
    click.echo(f"owner:   {key.public.hex()}  (what clients pin)")
    click.echo(f"map:     {place.text}  (what clients start from)")


@shards.command()
@click.option("--partitions", "listed", is_flag=True, help="Say of each store which partitions it owns.")
@shard_options
def show(listed: bool, place: Place) -> None:
    """Print the newest map, and what each store says of itself.

    The number in front is the store's place in the map, by which other commands call it STORE.
    """
    with place.mover() as mover:
        mover.learn()
        shards, problems = mover.shards, 0
        click.echo(f"shard map {shards.version} of owner {shards.owner_key.hex()}: {shards.partitions} partitions")
        for number, store in enumerate(shards.stores):
            told = _told(mover, number)
            problems += told is None
            said = "" if told is None else told
            click.echo(
                f"  {number}  {store.store_id.hex()}  {len(shards.owned[number]):>6} partitions  {store.url}{said}"
            )
            if listed:
                click.echo(f"     {_ranges(shards.owned[number])}")
        if shards.move is not None and shards.move.arrived is None:
            move = shards.move
            click.echo(f"on their way from {move.source} to {move.target}: {len(move.partitions)} partitions;"
                       " 'pmap shards resume' goes on with it, 'pmap shards give-up' takes it back")  # fmt: skip
    if problems:
        raise click.ClickException(f"{problems} of the stores do not answer as they should")


@shards.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@shard_options
def add(urls: tuple[str, ...], place: Place) -> None:
    """Add the stores at these addresses to the map.

    They own nothing yet: they get partitions by 'rebalance' or 'move'.
    """
    stores = [_store_at(url, place.constraint) for url in urls]
    with place.mover() as mover:
        mover.learn()
        mover.add(stores)
        mover.settle()
        click.echo(f"shard map {mover.shards.version} has {len(mover.shards.stores)} stores")


@shards.command()
@click.argument("store", metavar="STORE")
@click.argument("url", metavar="URL")
@shard_options
def address(store: str, url: str, place: Place) -> None:
    """Say that STORE listens at URL from now on.

    STORE is its place in the map, as 'show' prints it. It has to answer there. Clients need the new map, or 'refresh'.
    """
    with place.mover() as mover:
        mover.learn()
        number = _place(mover.shards, store)
        _check_address(url, mover.shards.stores[number].store_id, place.constraint)
        mover.readdress(number, url)
        mover.settle()
        click.echo(f"by shard map {mover.shards.version}, store {store} is at {url}")


@shards.command()
@click.argument("partitions", metavar="PARTITIONS")
@click.option("--to", "target", required=True, metavar="STORE", help="A store's place in the map, as 'show' prints it.")
@shard_options
def move(partitions: str, target: str, place: Place) -> None:
    """Move partitions to another store.

    PARTITIONS are numbers and ranges, such as 3 or 0-15,40; 'show --partitions' says who owns which. Those of one store
    move together, one store's after the other's. While they move, clients read them and wait with writes.

    \b
    Example:
      pmap shards move 0-15,40 --to 1
    """
    chosen = _partitions(partitions)
    with place.mover() as mover:
        mover.learn()
        to, owners = _place(mover.shards, target), mover.shards.owners
        if chosen[-1] >= len(owners):
            raise InvalidInput(f"there is no partition {chosen[-1]}: there are {len(owners)}, which count from 0")
        for source in sorted({owners[partition] for partition in chosen} - {to}):
            mover.begin_move([partition for partition in chosen if owners[partition] == source], to)
            mover.settle()
        click.echo(f"all of them are with store {to}, by shard map {mover.shards.version}")


@shards.command()
@click.option(
    "--leaving", multiple=True, metavar="STORE", help="Leave nothing on this store; may be given several times."
)
@click.option("--at-once", type=click.IntRange(1), default=32, show_default=True, help="Partitions that move together.")
@shard_options
def rebalance(leaving: tuple[str, ...], at_once: int, place: Place) -> None:
    """Spread the partitions evenly over the stores.

    Moves them until each is where rendezvous hashing puts it, and no others.

    \b
    Examples:
      pmap shards rebalance
      pmap shards rebalance --leaving 2    # empty store 2, to switch it off
    """
    from client.sharded.mover import plan

    with place.mover() as mover:
        mover.learn()
        mover.settle()
        moves = plan(mover.shards, [_place(mover.shards, store) for store in leaving], at_once)
        for number, (partitions, target) in enumerate(moves, 1):
            mover.begin_move(partitions, target)
            mover.settle()
            click.echo(f"{number} of {len(moves)}: {len(partitions)} partitions to store {target}")
        click.echo("every partition is where it belongs")


@shards.command()
@shard_options
def resume(place: Place) -> None:
    """Bring to its end what was interrupted.

    An installation of maps, or a move. Again does no harm.
    """
    with place.mover() as mover:
        mover.learn()
        mover.settle()
        click.echo(f"every store is at shard map {mover.shards.version}")


@shards.command("give-up")
@shard_options
def give_up(place: Place) -> None:
    """Take back a move that has not arrived.

    The source owns the partitions as before.
    """
    with place.mover() as mover:
        mover.learn()
        mover.give_up()
        mover.settle()
        click.echo(f"given up, by shard map {mover.shards.version}")


@shards.command()
@shard_options
def verify(place: Place) -> None:
    """Check that each key is where the map says, once.

    Reads every key of every store.
    """
    from client.sharded.verify import verify_store

    with place.mover() as mover:
        problems: list[str] = []
        total = 0
        for number in range(len(mover.shards.stores)):
            try:
                found = verify_store(mover, number)
            except PmapError as error:
                problems.append(f"store {number}: {type(error).__name__}: {error}")
                continue
            total += found.entries
            problems += [f"store {number}: {problem}" for problem in found.problems]
        for problem in problems:
            click.echo(problem, err=True)
    if problems:
        raise click.ClickException("not everything is as the map says; 'pmap shards resume' puts in order what it can")
    click.echo(f"{total:,} entries, each where shard map {mover.shards.version} says")


def _store_at(url: str, constraint: str) -> ShardStore:
    """The attested store at an address, which belongs to nobody yet. Raises :class:`InvalidInput` if it does."""
    from client.kv import KeyValueClient
    from wire.kv import Shards, ShardStatus
    from wire.shard_map import ShardStore

    with KeyValueClient.connect(url, constraint=constraint) as entries:
        (status,) = entries.execute([Shards()])
        if not isinstance(status, ShardStatus) or status.signed is not None:
            raise InvalidInput(f"the store at {url} belongs to a cluster already")
        return ShardStore(entries.client.store_id, entries.client.checkpoint_key, url)


def _check_address(url: str, store_id: bytes, constraint: str) -> None:
    """Before the map says so: a wrong address in it would keep everybody from the store."""
    from client.kv import KeyValueClient

    with KeyValueClient.connect(url, constraint=constraint) as entries:
        found = entries.client.store_id
        if found != store_id:
            raise InvalidInput(f"at {url} is the store {found.hex()}, not {store_id.hex()}: nothing was changed")


def _told(mover: Mover, number: int) -> str | None:
    """What a store says of itself, in a few words; None if it does not answer. The reason goes to standard error."""
    from wire.shard_map import open_shard_map

    try:
        status = mover.status(number)
    except PmapError as error:
        click.echo(f"store {number}: {type(error).__name__}: {error}", err=True)
        return None
    version = 0 if status.signed is None else open_shard_map(status.signed).version
    behind = "" if version == mover.shards.version else f", has map {version}"
    return behind + (", has entries to remove" if status.residue else "")


def _partitions(text: str) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidInput(f"partitions are numbers and ranges, such as 0-15,40, not {text[:100]!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        found.update(range(first, last + 1))
    return sorted(found)


def _ranges(partitions: Sequence[int]) -> str:
    """As 'move' takes them."""
    runs: list[list[int]] = []
    for partition in partitions:
        if runs and partition == runs[-1][1] + 1:
            runs[-1][1] = partition
        else:
            runs.append([partition, partition])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"


def _place(shards: ShardMap, text: str) -> int:
    if not text.isdecimal() or int(text) >= len(shards.stores):
        raise InvalidInput(
            f"a store is named by its place in the map, 0 to {len(shards.stores) - 1}, not {text[:100]!r}"
        )
    return int(text)


@contextmanager
def _progress() -> Iterator[Callable[[str], object]]:
    """Shows the step under way on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console
    from rich.status import Status

    with Status("", console=Console(stderr=True)) as status:
        yield status.update
