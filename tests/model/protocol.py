"""The claim protocol as a small state machine, explored exhaustively within bounds.

Two workers, two tasks that forbid overlap (one of which is deleted and created again), and a network that never forgets: a
message that was sent can arrive at any later time, any number of times, or never. Time is reduced to its order: a worker
stops trusting its lease before the server ends it. Each of GUARDS can be switched off, to see that it is needed.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from protocol_state import Boot, Live, Message, Run, State, Violation, Worker, check, hold

BOOT_REFUSED_WHEN_DEAD = "a boot is refused when dead"
SEQ_CHECKED = "the seq of a claim is checked"
DEAD_BEFORE_TAKING = "a boot is marked dead before its attempts are taken"
TOKEN_COMPARED = "the token of a settlement is compared"
GENERATION_COMPARED = "the generation of a run is compared"
ONE_CLAIM_AT_A_TIME = "a worker sends n + 1 only after n's reply"
GUARDS = (
    BOOT_REFUSED_WHEN_DEAD,
    SEQ_CHECKED,
    DEAD_BEFORE_TAKING,
    TOKEN_COMPARED,
    GENERATION_COMPARED,
    ONE_CLAIM_AT_A_TIME,
)


@dataclass(frozen=True)
class Bounds:
    """How much of everything there is: claims and renewals are a boot's, re-creations are the first task's."""

    tasks: int = 2
    boots: int = 2
    claims: int = 2
    renewals: int = 1
    creations: int = 0
    depth: int = 99


@dataclass(frozen=True)
class Explored:
    """How much was looked at: distinct states, and the longest of the shortest ways to them."""

    states: int
    depth: int
    violation: str = ""


def explore(bounds: Bounds, without: str = "") -> Explored:
    """Breadth first through every state within the bounds, until one breaks an invariant."""
    protocol = Protocol(bounds, without)
    n = bounds.tasks
    start = State(generations_given=n, generations=tuple(range(1, n + 1)), is_decided=(False,) * n, counts=(0,) * n)
    seen = {start}
    queue = deque([(start, 0)])
    depth = 0
    while queue:
        state, depth = queue.popleft()
        if depth == bounds.depth:
            break
        try:
            for following in protocol.following(state):
                if following not in seen:
                    check(following)
                    seen.add(following)
                    queue.append((following, depth + 1))
        except Violation as violation:
            return Explored(len(seen), depth + 1, str(violation))
    return Explored(len(seen), depth)


class Protocol:
    """The transitions, with some guards switched off."""

    def __init__(self, bounds: Bounds, without: str) -> None:
        self._bounds = bounds
        self._is_on = {guard: guard != without for guard in GUARDS}

    def following(self, s: State) -> Iterator[State]:
        """Every state that can come next."""
        for found in self._all_following(s):
            # Two workers that changed places make no other state, and a message that can do nothing any more, no other net.
            dead = {m for m in found.net if self._is_dead_letter(found, m)}
            yield found._replace(workers=tuple(sorted(found.workers, key=_order)), net=found.net - dead)

    def _all_following(self, s: State) -> Iterator[State]:
        for index, w in enumerate(s.workers):
            for state, worker in self._of_worker(s, w):
                yield state._replace(workers=(*s.workers[:index], worker, *s.workers[index + 1 :]))
        for message in s.net:
            following = self._arrived(s, message)
            if following is not None and following != s:
                yield following
        yield from self._of_time_and_users(s)

    def _is_dead_letter(self, s: State, m: Message) -> bool:
        """Whether it can change nothing, whenever it arrives. Only what the guards that are on make certain counts."""
        w = next((w for w in s.workers if w.boot == m.boot), None)
        boot = next((b for b in s.boots if b.number == m.boot), None)
        if m.what == "granted":
            return w is None or m.number <= w.seq
        if m.what == "renewed":
            return w is None or m.number <= w.acknowledged
        if m.what in ("ok", "release"):
            return self._is_on[TOKEN_COMPARED] and not any(
                (a.boot, a.run, a.token) == (m.boot, m.run, m.token) for a in s.live
            )
        if m.what in ("refused", "reap"):
            return w is None if m.what == "refused" else boot is None
        is_refused = (boot is None or boot.is_dead) and self._is_on[BOOT_REFUSED_WHEN_DEAD]
        if is_refused or m.what == "renew":
            return is_refused and w is None
        is_old = boot is not None and m.number <= boot.seq and (w is None or m.number <= w.seq)
        return is_old and self._is_on[SEQ_CHECKED]

    # --- what workers do ------------------------------------------------------------------------------------------

    def _of_worker(self, s: State, w: Worker) -> Iterator[tuple[State, Worker]]:
        if not w.boot:
            if s.boots_given < self._bounds.boots:
                number = s.boots_given + 1
                yield s._replace(boots_given=number, boots=s.boots | {Boot(number)}), Worker(number)
            return
        yield s, Worker()  # it crashes, or notices that its lease ended
        if w.lapsed < w.renewals:
            yield s, w._replace(lapsed=w.lapsed + 1)
        if not w.trusts:
            return
        newest = w.asked or w.seq
        if newest < self._bounds.claims and (not w.asked or not self._is_on[ONE_CLAIM_AT_A_TIME]):
            yield _sent(s, Message("claim", w.boot, newest + 1)), w._replace(asked=newest + 1)
        if w.renewals < self._bounds.renewals:
            yield _sent(s, Message("renew", w.boot, w.renewals + 1)), w._replace(renewals=w.renewals + 1)
        for held in w.holds:
            for action in ("ok", "release"):
                message = Message(action, w.boot, run=held[0], token=held[1])
                yield _sent(s, message), w._replace(holds=w.holds - {held}, unsettled=w.unsettled | {held})

    # --- time and users -------------------------------------------------------------------------------------------

    def _of_time_and_users(self, s: State) -> Iterator[State]:
        for boot in s.boots:
            owner = next((w for w in s.workers if w.boot == boot.number), None)
            if not boot.is_expired and (owner is None or boot.renewal <= owner.lapsed):
                expired = _with_boot(s, boot, boot._replace(is_expired=True))
                yield _sent(expired, Message("reap", boot.number))
        generation = s.generations[0]
        if generation and self._bounds.creations:
            yield _with_task(s, 0, 0, False, 0)
        elif s.generations_given < self._bounds.tasks + self._bounds.creations:
            number = s.generations_given + 1
            yield _with_task(s, 0, number, False, 0)._replace(generations_given=number)

    # --- what arrives ---------------------------------------------------------------------------------------------

    def _arrived(self, s: State, m: Message) -> State | None:
        if m.what in ("granted", "renewed", "refused"):
            return self._answered(s, m)
        boot = next((b for b in s.boots if b.number == m.boot), None)
        if m.what == "claim":
            return self._claim(s, m, boot)
        if m.what == "renew":
            return self._renew(s, m, boot)
        if m.what == "reap":
            return self._reap(s, boot) if boot else None
        return self._settle(s, m)

    def _answered(self, s: State, m: Message) -> State | None:
        for index, w in enumerate(s.workers):
            if w.boot != m.boot:
                continue
            if m.what == "refused":
                w = Worker()
            elif m.what == "renewed":
                w = w._replace(acknowledged=max(w.acknowledged, m.number))
            elif w.asked == m.number:
                w = w._replace(seq=m.number, asked=0, holds=w.holds | m.attempts)
            return s._replace(workers=(*s.workers[:index], w, *s.workers[index + 1 :]))
        return None

    def _claim(self, s: State, m: Message, boot: Boot | None) -> State | None:
        if boot is None or boot.is_dead:
            if self._is_on[BOOT_REFUSED_WHEN_DEAD]:
                return _sent(s, Message("refused", m.boot))
            boot = boot or Boot(m.boot)
        elif m.number == boot.seq and self._is_on[SEQ_CHECKED]:
            held = frozenset((a.run, a.token) for a in s.live if a.boot == m.boot and a.seq == m.number)
            return _sent(s, Message("granted", m.boot, m.number, held))
        elif m.number != boot.seq + 1 and self._is_on[SEQ_CHECKED]:
            return None
        attempts = []
        for run in sorted(s.waiting):
            s = s._replace(waiting=s.waiting - {run})
            if s.generations[run.task] == run.generation:
                attempts.append(run)
            else:
                s = _ended(s, run)
        for task in range(self._bounds.tasks):
            if s.generations[task] and not s.is_decided[task] and not s.counts[task]:
                attempts.append(Run(task, s.generations[task]))
                s = _with_task(s, task, s.generations[task], True, 1)
        granted = [Live(m.boot, run, s.token + i, m.number) for i, run in enumerate(attempts)]
        s = s._replace(token=s.token + len(granted), live=s.live | set(granted))
        if boot in s.boots:
            s = _with_boot(s, boot, boot._replace(seq=m.number))
        return _sent(s, Message("granted", m.boot, m.number, frozenset((a.run, a.token) for a in granted)))

    def _renew(self, s: State, m: Message, boot: Boot | None) -> State | None:
        if boot is None or (boot.is_dead and self._is_on[BOOT_REFUSED_WHEN_DEAD]):
            return _sent(s, Message("refused", m.boot))
        renewed = boot._replace(is_dead=False, is_expired=False, renewal=max(boot.renewal, m.number))
        return _sent(_with_boot(s, boot, renewed), Message("renewed", m.boot, m.number))

    def _reap(self, s: State, boot: Boot) -> State | None:
        """A batch of one."""
        if not boot.is_expired and not boot.is_dead:
            return None
        marked = boot._replace(is_dead=boot.is_dead or self._is_on[DEAD_BEFORE_TAKING])
        s = _with_boot(s, boot, marked)
        held = sorted(a for a in s.live if a.boot == boot.number)
        if held:
            s = self._given_back(s, held[0])
        return s if len(held) > 1 else s._replace(boots=s.boots - {marked})

    def _settle(self, s: State, m: Message) -> State | None:
        for attempt in s.live:
            is_ours = attempt.boot == m.boot and attempt.run == m.run
            if is_ours and (attempt.token == m.token or not self._is_on[TOKEN_COMPARED]):
                if m.what == "release":
                    return self._given_back(s, attempt)
                return self._closed(s._replace(live=s.live - {attempt}), attempt.run)
        return None

    def _given_back(self, s: State, attempt: Live) -> State:
        s = s._replace(live=s.live - {attempt})
        if s.generations[attempt.run.task] != attempt.run.generation:
            return self._closed(s, attempt.run)
        return s._replace(waiting=s.waiting | {attempt.run})

    def _closed(self, s: State, run: Run) -> State:
        s, current = _ended(s, run), s.generations[run.task]
        if current == run.generation or (current and not self._is_on[GENERATION_COMPARED]):
            return _with_task(s, run.task, current, s.is_decided[run.task], max(0, s.counts[run.task] - 1))
        return s


def _order(w: Worker) -> tuple[object, ...]:
    return (*w[:6], sorted(w.holds), sorted(w.unsettled))


def _ended(s: State, run: Run) -> State:
    hold(run not in s.ended, "a run ended twice")
    return s._replace(ended=s.ended | {run})


def _sent(s: State, message: Message) -> State:
    return s._replace(net=s.net | {message})


def _with_boot(s: State, old: Boot, new: Boot) -> State:
    return s._replace(boots=s.boots - {old} | {new})


def _with_task(s: State, task: int, generation: int, is_decided: bool, count: int) -> State:
    def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
        return (*values[:task], value, *values[task + 1 :])

    return s._replace(
        generations=put(s.generations, generation),
        is_decided=tuple(map(bool, put(s.is_decided, is_decided))),
        counts=put(s.counts, count),
    )
