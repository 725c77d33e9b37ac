"""Known faults of sessions, holds and waits, put in on purpose; see `simulation.faults`."""

from __future__ import annotations

from naught_server import commands, sessions
from naught_server.batch import Batch
from naught_server.holds import Holds
from naught_server.hot import HotCounters
from naught_server.marks import Marks
from naught_server.protocol import ServerProtocol
from naught_server.session import Session
from naught_server.sessions import Sessions
from naught_server.store import Cache
from naught_server.timers import Timers
from naught_server.waiters import AcquireWaiter, Generation, Waiter, Waiters, ZeroWaiter
from simulation.faults import Fault

FAULTS: list[Fault] = [
    # counting
    Fault("an acknowledgement is not noted", Session, "acknowledge", "self.acknowledged = received", "pass"),
    Fault(
        "acknowledged replies of waits still count",
        Session,
        "acknowledge",
        "parked and parked[0] <= received",
        "False",
    ),
    Fault(
        "replies of waits count as others do", Session, "reply", "self.parked_replies.append(self.replied)", "pass"
    ),
    Fault(
        "a reply of a wait is not counted",
        Session,
        "_answer",
        "self.reply(reply, parks=True)",
        "self.outbox.append(reply)",
    ),
    Fault(
        "one reply too many is kept",
        Session,
        "room",
        "return UNACKNOWLEDGED_MAX - (",
        "return 1 + UNACKNOWLEDGED_MAX - (",
    ),
    Fault(
        "kept replies are dropped too early",
        Session,
        "acknowledge",
        "kept[0][0] <= received",
        "kept[0][0] <= received + 1",
    ),
    Fault(
        "replies are sent again that were received",
        Session,
        "_unacknowledged_chunks",
        "if self._kept and surplus:",
        "if False:",
    ),
    Fault("replies before an ack are not kept", Session, "seal", "self._keep_unsealed()", "pass"),
    Fault(
        "replies of the hot path count twice",
        ServerProtocol,
        "_serve_plain",
        "session.count(count, count)",
        "session.count(count, 2 * count)",
    ),
    Fault(
        "a request that waits is not counted as accepted",
        ServerProtocol,
        "_serve",
        "if msgid is not None:\n        session.accept",
        "if reply is not None:\n        session.accept",
    ),
    Fault(
        "a batch runs again when it is sent again",
        ServerProtocol,
        "_serve_plain",
        "session.accept()",
        "pass",
    ),
    Fault(
        "a resumption says the wrong reply", commands, "_resume", "session.acknowledged + 1", "session.replied + 1"
    ),
    # connections
    Fault("a takeover leaves input of the old connection", ServerProtocol, "lose_session", "self._forget()", "pass"),
    Fault("a takeover leaves the old connection", Sessions, "resume", "session.outlet.lose_session()", "pass"),
    Fault(
        "the lease runs on after a resumption",
        Session,
        "attach",
        "self._services.timers.cancel(self._lease)",
        "pass",
    ),
    Fault("a cancelled timer fires", Timers, "cancel", "timer.take() is None", "timer.callback is None"),
    Fault("a lease is forgotten", Timers, "fire_due", "callback(now_ms)", "callback(now_ms) if fired > 1 else None"),
    Fault(
        "waiting requests are lost with the connection",
        Sessions,
        "leave",
        "session.detach()",
        "session.detach(); [each.leave() for each in session.parked.values()]; session.parked.clear()",
    ),
    Fault(
        "replies not sent yet are lost with the connection",
        Sessions,
        "leave",
        "session.detach()",
        "session.outbox.clear(); session.detach()",
    ),
    Fault(
        "replies not sent yet are lost with a takeover",
        Sessions,
        "resume",
        "session.detach()",
        "session.outbox.clear(); session.detach()",
    ),
    Fault(
        "the reply of a wait is not sent",
        ServerProtocol,
        "output_ready",
        "self.wants_turn = True\n        self._wake()",
        "pass",
    ),
    # waiting
    Fault(
        "the last waiter is granted",
        Waiters,
        "settle",
        "self._grant(first, now_ms)",
        "self._grant(self.queues.of(key)[-1], now_ms)",
    ),
    Fault(
        "the second waiter is granted",
        Waiters,
        "settle",
        "self._grant(first, now_ms)",
        "self._grant(self.queues.of(key)[:2][-1], now_ms)",
    ),
    Fault(
        "being first in one queue is enough",
        AcquireWaiter,
        "look",
        "queues.first(key) is not self or",
        "",
    ),
    Fault(
        "the blocking key is not looked for again",
        AcquireWaiter,
        "look",
        "self.blocked_by = key",
        "self.blocked_by = self.blocked_by or key",
    ),
    Fault(
        "the wrong blocking key is remembered",
        AcquireWaiter,
        "look",
        "self.blocked_by = key",
        "self.blocked_by = keys[0]",
    ),
    Fault(
        "a grant postponed for a shard is forgotten",
        Waiters,
        "settle",
        "self._ready.update(dict.fromkeys(postponed))",
        "pass",
    ),
    Fault("a grant does not look at shards", Waiters, "settle", "self.cache.is_worked_on(first.keys)", "False"),
    Fault("the next waiter is not looked at", AcquireWaiter, "leave", "self.waiters.on_decrease(key)", "pass"),
    Fault("acquire overtakes", commands, "acquire", "if not queues or queues.keys().isdisjoint(sums):", "if True:"),
    Fault("try_incr overtakes", Cache, "try_incr", "if queues and not", "if False and not"),
    Fault("a wait that has ended stays in its queue", Waiter, "end", "self.leave()", "0"),
    Fault("the end of a wait wakes no waiter", Waiter, "end", "self.waiters.settle(now_ms, SETTLED_AT_ONCE)", "0"),
    Fault("a decrement wakes no waiter", Cache, "decr", "if key in self.waiters.queues.by_key:", "if False:"),
    Fault(
        "the hot path ignores waiters for room",
        HotCounters,
        "decr",
        "if watched and self.queued and key in self.queues:",
        "if False:",
    ),
    Fault("a wait for room makes no mark", AcquireWaiter, "enqueue", "self.waiters.marks.add(key)", "pass"),
    Fault("a wait for zero makes no mark", ZeroWaiter, "enqueue", "self.waiters.marks.add(self.key)", "pass"),
    Fault("a hold makes no mark", Waiters, "generation_to_hold", "self.marks.add(key)", "pass"),
    Fault("marks of one table are lost", Marks, "rebuild", "for table in tables:", "for table in tables[1:]:"),
    Fault("the hot path ignores waiters for zero", HotCounters, "decr", " or key in self.awaited", ""),
    Fault("the hot path ignores holds", HotCounters, "decr", "key in self.held or ", ""),
    Fault(
        "the hot path leaves a deadline",
        HotCounters,
        "_decr_timed",
        "before <= by",
        "before < by",
    ),
    Fault("a batch wakes at its end", Cache, "apply_item", "if waiters.unsettled:", "if False:"),
    Fault("set to a smaller value wakes no waiter", Cache, "set", "if value < before and", "if False and"),
    Fault(
        "waiters of expired counters are overtaken",
        ServerProtocol,
        "_serve_input",
        "if cache.waiters.unsettled:",
        "if False:",
    ),
    Fault("expiry wakes no waiter", Cache, "expire", "self.waiters.on_absent(key)", "pass"),
    Fault("clear wakes no waiter", Cache, "clear", "self.waiters.on_all_absent()", "pass"),
    Fault("clear wakes no wait for zero", Waiters, "on_all_absent", "self._woken_all.append(", "bool("),
    Fault("a lazy zero wakes no waiter", Cache, "on_zero", "self.waiters.on_absent(key)", "pass"),
    Fault("an eviction wakes no waiter", Cache, "_evict", "self.waiters.on_absent(key)", "pass"),
    Fault(
        "a counter that has expired meanwhile is not absent",
        ZeroWaiter,
        "outcome",
        "or waiters.cache.is_expired(self.key, now_ms)",
        "",
    ),
    # batches in portions
    Fault(
        "an item of a batch is done twice",
        Batch,
        "_do_one",
        "self._items.take()",
        "self._items.take(); self._items.done -= self._items.done == 2 and len(self._results) == 1",
    ),
    Fault(
        "later requests do not wait for a batch",
        ServerProtocol,
        "_serve_input",
        "self._go_on_with_batch(session.batch, now_ms, direct)\n            continue",
        "self._go_on_with_batch(session.batch, now_ms, direct)",
    ),
    Fault(
        "a batch is lost with its connection",
        Sessions,
        "leave",
        "session.detach()",
        "session.detach(); session.finish_batch()",
    ),
    Fault(
        "a portion does not look at shards", ServerProtocol, "_go_on_with_batch", "if cache.locks.held:", "if False:"
    ),
    # holds
    Fault(
        "a release in parts gives back twice", Holds, "_give_back", "if by < held:", "if by < held or hold.amounts:"
    ),
    Fault(
        "the end of a session gives back twice",
        Holds,
        "give_back",
        'self._give_back(hold, key, by, now_ms, "session")',
        'self._give_back(hold, key, by, now_ms, "session"); self._cache.decr(key, by, False, now_ms)',
    ),
    Fault(
        "the end of a session does not look at shards",
        Holds,
        "give_back",
        "self._cache.is_worked_on(hold.amounts)",
        "False",
    ),
    Fault(
        "a part gives back the whole", Holds, "_give_back", "self._cache.decr(key, by,", "self._cache.decr(key, held,"
    ),
    Fault("more is released than is held", Holds, "_release_items", "if live < by:", "if not live:"),
    Fault(
        "a release goes to a newer generation",
        Holds,
        "live_amount",
        "self._cache.waiters.generations.get(key) is not generation",
        "key not in self._cache.waiters.generations",
    ),
    Fault(
        "a release goes to any generation",
        Holds,
        "live_amount",
        "self._cache.waiters.generations.get(key) is not generation",
        "False",
    ),
    Fault("a hold outlives its counter", Waiters, "on_absent", "self.generations.pop(key, None)", "pass"),
    Fault("holds outlive clear", Waiters, "on_all_absent", "self.generations.clear()", "pass"),
    Fault(
        "a generation ends with its first hold",
        Waiters,
        "let_go",
        "generation.remove_hold(holder, by) and",
        "[generation.remove_hold(holder, by)] and",
    ),
    Fault(
        "a hold can be released by another session",
        commands,
        "release",
        "return peer.session.holds.release(number, None, now_ms)",
        "return next(one for one in [*peer.engine.sessions, peer.session] "
        "if one.holds.get(number) or one is peer.session).holds.release(number, None, now_ms)",
    ),
    # the end
    Fault("a session that has ended stays in the queues", Session, "empty_queues", "waiter.drop()", "0"),
    Fault(
        "giving back the holds of ended sessions wakes no waiter",
        sessions,
        "_empty",
        "if waiters.unsettled:",
        "if False:",
    ),
    Fault(
        "a session that has ended is forgotten", Sessions, "step", "if session.parked or session.holds:", "if False:"
    ),
    Fault("a session is known after its end", Sessions, "end", "self._by_id.pop(session.id, None)", "pass"),
    Fault(
        "a session is known by its number after its end",
        Sessions,
        "end",
        "self._by_number.pop(session.number, None)",
        "pass",
    ),
    # what operators see and do
    Fault(
        "a session that the operator ends keeps its connection",
        Sessions,
        "end_by_operator",
        "session.outlet.lose_session()",
        "pass",
    ),
    Fault("an end does not count as a lost connection", Sessions, "end", "self._away -= 1", "pass"),
    Fault("a session holds what it has given back", Generation, "reduce", "self._amount -= by", "pass"),
    Fault("a session holds only its last hold", Generation, "add_hold", "amounts.get(holder, 0) + by", "by"),
    Fault("a part of a hold is still held", Holds, "_give_back", "generation.reduce(self._holder, by)", "pass"),
    Fault("a hold that is over is counted", Holds, "_forget", "self._counts.change(-1, -len(hold.amounts))", "pass"),
    Fault(
        "a wait that is over is counted",
        Session,
        "_count_left",
        "self._services.remove_parked(size, memory_bytes)",
        "pass",
    ),
]
