"""Known faults of sessions, holds and waits, put in on purpose; see `simulation.faults`."""

from __future__ import annotations

from naught_server import batch, column, commands, sessions
from naught_server.batch import Batch
from naught_server.holds import Holds
from naught_server.protocol import ServerProtocol
from naught_server.session import Session
from naught_server.sessions import Sessions
from naught_server.store import Cache
from naught_server.timers import Timers
from naught_server.waiters import AcquireWaiter, Waiter, Waiters, ZeroWaiter
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
    Fault("one reply too many is kept", Session, "has_room", "+ requests <=", "<"),
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
        "replies of the fast loop count twice",
        ServerProtocol,
        "_run",
        "(served, served - counted)",
        "(served, served)",
    ),
    Fault("a column is not counted", column, "serve", "session.count(len(values), len(values))", "pass"),
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
        "_run",
        "count(served, ",
        "count(served - applies, ",
    ),
    Fault(
        "a resumption says the wrong reply", commands, "_resume", "session.acknowledged + 1", "session.replied + 1"
    ),
    # connections
    Fault(
        "a takeover leaves what the old connection has read", ServerProtocol, "taken_over", "self._forget()", "pass"
    ),
    Fault("a takeover leaves the old connection", Sessions, "resume", "session.outlet.taken_over()", "pass"),
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
        "what waits is lost with the connection",
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
        "nobody sends the reply of a wait",
        ServerProtocol,
        "output_ready",
        "self.wants_turn = True\n        self._wake()",
        "pass",
    ),
    # waiting
    Fault(
        "the last is woken",
        Waiters,
        "settle",
        "self._grant(first, now_ms)",
        "self._grant(next(reversed(queue)), now_ms)",
    ),
    Fault(
        "the second is woken",
        Waiters,
        "settle",
        "self._grant(first, now_ms)",
        "self._grant([*queue][:2][-1], now_ms)",
    ),
    Fault("one queue is enough", AcquireWaiter, "is_blocked", "next(iter(queues[key])) is not self or", ""),
    Fault(
        "the key that keeps back is not looked for again",
        AcquireWaiter,
        "is_blocked",
        "self.blocked_by = key",
        "self.blocked_by = self.blocked_by or key",
    ),
    Fault(
        "the key that kept back is remembered wrong",
        AcquireWaiter,
        "is_blocked",
        "self.blocked_by = key",
        "self.blocked_by = keys[0]",
    ),
    Fault("who waits for a shard is forgotten", Waiters, "settle", "self._ready.extend(postponed)", "pass"),
    Fault("a grant does not look at shards", Waiters, "settle", "self.cache.is_worked_on(first.sums)", "False"),
    Fault("the next is not looked at", AcquireWaiter, "leave", "self.waiters.on_decrease(key)", "pass"),
    Fault("acquire overtakes", commands, "acquire", "if not queues or queues.keys().isdisjoint(sums):", "if True:"),
    Fault("try_incr overtakes", Cache, "try_incr", "if queues and not", "if False and not"),
    Fault("a wait is ended in its place", Waiter, "end", "self.leave()", "pass"),
    Fault("an end of a wait wakes nobody", Waiter, "end", "self.waiters.settle(now_ms, SETTLED_AT_ONCE)", "pass"),
    Fault("a decrement wakes nobody", Cache, "decr", "if key in self.waiters.queues:", "if False:"),
    Fault("a smaller counter in a batch wakes nobody", Cache, "on_decrease", "self.waiters.on_decrease(key)", "pass"),
    Fault("a batch of decrements wakes nobody", batch, "take_from_all", "if queues and key in queues:", "if False:"),
    Fault("a mixed batch wakes nobody", batch, "apply_each", "if queues and by < 0 and key in queues:", "if False:"),
    Fault("a batch wakes at its end", Cache, "apply_item", "if self.waiters.unsettled:", "if False:"),
    Fault("a smaller value wakes nobody", Cache, "set", "if value < before and", "if False and"),
    Fault("expired ones are overtaken", ServerProtocol, "_serve_input", "if cache.waiters.unsettled:", "if False:"),
    Fault("expiry wakes nobody", Cache, "expire", "self.waiters.on_absent(key)", "pass"),
    Fault("clear wakes nobody", Cache, "clear", "self.waiters.on_all_absent()", "pass"),
    Fault("clear wakes no wait for zero", Waiters, "on_all_absent", "self._woken.extend(woken)", "pass"),
    Fault("a lazy zero wakes nobody", Cache, "on_zero", "self.waiters.on_absent(key)", "pass"),
    Fault("an eviction wakes nobody", Cache, "_evict", "self.waiters.on_absent(key)", "pass"),
    Fault(
        "what expired meanwhile is not absent",
        ZeroWaiter,
        "outcome",
        "or waiters.cache.is_expired(self.key, now_ms)",
        "",
    ),
    Fault(
        "the fast loop passes by who waits",
        ServerProtocol,
        "_run",
        "key in queues or (value <= 0 and key in awaited)",
        "False",
    ),
    # batches in portions
    Fault(
        "an item of a batch is done twice",
        Batch,
        "go_on",
        "self.done += len(keys)",
        "self.done += len(keys) - (not self.done and len(keys) > 1)",
    ),
    Fault(
        "what follows does not wait for a batch", ServerProtocol, "_serve_input", "and self.session.batch is None", ""
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
        "done += len(live) + 1",
        "[self._cache.decr(key, live[key], False, now_ms) for key in live]; done += 1",
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
    Fault("more is released than is held", Holds, "release", "if live.get(key, 0) < by:", "if not live.get(key, 0):"),
    Fault(
        "a release goes to a newer generation",
        Holds,
        "live_amounts",
        "generations.get(key) is generation",
        "key in generations",
    ),
    Fault("a release goes to any generation", Holds, "live_amounts", "generations.get(key) is generation", "True"),
    Fault("a hold outlives its counter", Waiters, "on_absent", "self.generations.pop(key, None)", "pass"),
    Fault("holds outlive clear", Waiters, "on_all_absent", "self.generations = {}", "pass"),
    Fault(
        "a generation ends with its first hold",
        Waiters,
        "let_go",
        "generation.remove_hold() and",
        "[generation.remove_hold()] and",
    ),
    Fault(
        "a hold is anybody's",
        commands,
        "release",
        "return peer.session.holds.release(number, None, now_ms)",
        "return next(one for one in [*peer.engine.sessions, peer.session] "
        "if one.holds.get(number) or one is peer.session).holds.release(number, None, now_ms)",
    ),
    # the end
    Fault("a session that has ended stays in the queues", Session, "empty_queues", "waiter.leave()", "pass"),
    Fault("what ended sessions hold wakes nobody", sessions, "_empty", "if waiters.unsettled:", "if False:"),
    Fault(
        "a session that has ended is forgotten", Sessions, "step", "if session.parked or session.holds:", "if False:"
    ),
    Fault("a session is known after its end", Sessions, "end", "self._by_id.pop(session.id, None)", "pass"),
]
