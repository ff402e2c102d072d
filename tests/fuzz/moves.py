"""The moves of a world, so that Hypothesis and the long run choose among the same ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuzz.world import KEYS, TOPICS, World

WORDS = ("put", "append", "delete", "get", "mail", "fail")


@dataclass(frozen=True, slots=True)
class Move:
    """A move and how likely it is. It gets three numbers to choose with."""

    name: str
    weight: int
    make: Callable[[World, int, int, int], None]


def _send(world: World, x: int, y: int, z: int) -> None:
    # Whoever has caught the host does not ask any more.
    asking = [one for one in world.people if one.client.verdict is None] or world.people
    person = asking[x % len(asking)]
    word = WORDS[y % len(WORDS)]
    recipient = z % len(world.people)
    known = world.people[recipient].highest is not None
    # Mail goes to clients only; before its first hello a person is none.
    if word == "mail" and not known:
        word = "append"
    world.send(person, TOPICS[z % 2], word, KEYS[y // 7 % len(KEYS)], recipient)


def _person(act: Callable[[World, Any, int, int], None]) -> Callable[[World, int, int, int], None]:
    return lambda world, x, y, z: act(world, world.people[x % len(world.people)], y, z)


def _branch(act: Callable[[World, Any, int, int], None]) -> Callable[[World, int, int, int], None]:
    return lambda world, x, y, z: act(world, world.branches[x % len(world.branches)], y, z)


HONEST = (
    Move("send", 40, _send),
    Move("send at once", 10, _person(lambda w, p, y, z: w.send_at_once(p, WORDS[y % 4], KEYS[z % len(KEYS)]))),
    Move("heartbeat", 6, _person(lambda w, p, y, z: w.heartbeat(p, TOPICS[y % 2]))),
    Move("poll", 6, _person(lambda w, p, y, z: w.poll(p))),
    Move("settle", 4, _person(lambda w, p, y, z: w.settle(p))),
    Move("compare", 3, lambda w, x, y, z: w.compare(w.people[x % len(w.people)], w.people[y % len(w.people)])),
    Move("kill client", 4, _person(lambda w, p, y, z: w.kill(p, before=y % 2 == 0, power_cut=z % 2 == 0))),
    Move("lose request", 6, _person(lambda w, p, y, z: w.lose(p, 1 + y % 4, reply=False))),
    Move("lose reply", 6, _person(lambda w, p, y, z: w.lose(p, 1 + y % 4, reply=True))),
    Move("crash", 5, _person(lambda w, p, y, z: w.crash_before_storing(p))),
    Move("restart", 6, _branch(lambda w, b, y, z: w.restart(b))),
    Move("hold request", 8, _person(lambda w, p, y, z: w.hold(p))),
    Move("batch", 8, _person(lambda w, p, y, z: w.together(p, store=y % 8 > 0))),
    Move("call", 3, _branch(lambda w, b, y, z: w.call(b, KEYS[y % len(KEYS)]))),
    Move("rotate key", 2, _branch(lambda w, b, y, z: w.rotate(b, store=y % 4 > 0))),
)
MALICIOUS = (
    *HONEST,
    Move(
        "newcomer",
        12,
        lambda w, x, y, z: w.enrol_anew(
            w.people[x % len(w.people)], w.branches[y % len(w.branches)], w.people[z % len(w.people)]
        ),
    ),
    Move("roll back", 4, _branch(lambda w, b, y, z: w.roll_back(b, 1 + y % 6))),
    Move(
        "clone", 4, lambda w, x, y, z: w.clone(w.branches[x % len(w.branches)], y % 3) if len(w.branches) < 4 else None
    ),
    Move("race", 6, lambda w, x, y, z: w.race(w.people[x % len(w.people)], w.people[y % len(w.people)])),
    Move("forget alarm", 12, _branch(lambda w, b, y, z: w.forget_alarm(b))),
    Move("old keyring", 3, _branch(lambda w, b, y, z: w.old_keyring(b, y, z % 4))),
    Move(
        "splice",
        3,
        lambda w, x, y, z: w.splice(w.branches[x % len(w.branches)], w.branches[y % len(w.branches)], z),
    ),
    Move("lead", 6, lambda w, x, y, z: w.lead(w.people[x % len(w.people)], w.branches[y % len(w.branches)])),
    Move("lose outbox", 2, _branch(lambda w, b, y, z: w.lose_outbox(b))),
    Move("replay", 12, _branch(lambda w, b, y, z: w.replay(b, y))),
    Move("old answer", 8, _person(lambda w, p, y, z: w.answer_with_old(p, y))),
    Move("stuff poll", 6, _person(lambda w, p, y, z: w.stuff_poll(p, y))),
    Move("mirror", 8, _person(lambda w, p, y, z: w.mirror(p, y, answer=z))),
    Move("back up", 3, _person(lambda w, p, y, z: w.back_up(p))),
    Move("restore backup", 2, _person(lambda w, p, y, z: w.restore_backup(p))),
)
