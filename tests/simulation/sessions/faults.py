"""Known faults of sessions, holds and waits, put in on purpose; see `simulation.faults`."""

from __future__ import annotations

from naught_server import batch, column, commands
from naught_server.batch import Batch
from naught_server.protocol import Channel
from naught_server.session import Session, Sessions
from naught_server.store import Cache
from naught_server.timers import Alarms
from naught_server.waiters import ForRoom, ForZero, Waiter, Waiting
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
        "replies of waits count as others do", Session, "answer", "self.parked_replies.append(self.replied)", "pass"
    ),
    Fault("a reply of a wait is not counted", Session, "answer", "self.replied += 1", "pass"),
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
        "replies_again",
        "if self.kept and surplus:",
        "if False:",
    ),
    Fault("replies before an ack are not kept", Channel, "_serve", "self._keep(out)", "pass"),
    Fault("replies of the fast loop count twice", Channel, "_run", "+= served - counted", "+= served"),
    Fault("a column is not counted", column, "serve", "session.replied += len(values)", "pass"),
    Fault(
        "a request that waits is not counted as accepted",
        Channel,
        "_serve",
        "if msgid is not None:\n        session.accepted",
        "if reply is not None:\n        session.accepted",
    ),
    Fault(
        "a batch runs again when it is sent again",
        Channel,
        "_run",
        "accepted += served",
        "accepted += served - applies",
    ),
    Fault(
        "a resumption says the wrong reply", commands, "_resume", "session.acknowledged + 1", "session.replied + 1"
    ),
    # connections
    Fault("a takeover leaves what the old connection has read", Channel, "lose_session", "self._forget()", "pass"),
    Fault("a takeover leaves the old connection", Sessions, "resume", "session.channel.lose_session()", "pass"),
    Fault(
        "the lease runs on after a resumption",
        Sessions,
        "resume",
        "self._engine.alarms.cancel(session.lease)",
        "pass",
    ),
    Fault("a cancelled alarm rings", Alarms, "cancel", "alarm.ring = None", "pass"),
    Fault("a lease is forgotten", Alarms, "step", "ring(now_ms)", "ring(now_ms) if rang > 1 else None"),
    Fault(
        "what waits is lost with the connection",
        Sessions,
        "leave",
        "session.channel = None",
        "session.channel = None; [each.leave() for each in session.parked.values()]; session.parked.clear()",
    ),
    Fault(
        "replies not sent yet are lost with the connection", Sessions, "leave", "self._keep_posted(session)", "pass"
    ),
    Fault("replies not sent yet are lost with a takeover", Sessions, "resume", "self._keep_posted(session)", "pass"),
    Fault(
        "nobody sends the reply of a wait", Channel, "post", "self.wants_turn = True\n        self._wake()", "pass"
    ),
    # waiting
    Fault(
        "the last is woken", Waiting, "settle", "self._try(first, now_ms)", "self._try(next(reversed(queue)), now_ms)"
    ),
    Fault(
        "the second is woken", Waiting, "settle", "self._try(first, now_ms)", "self._try([*queue][:2][-1], now_ms)"
    ),
    Fault("one queue is enough", ForRoom, "is_kept_back", "next(iter(queues[key])) is not self or", ""),
    Fault(
        "the key that keeps back is not looked for again",
        ForRoom,
        "is_kept_back",
        "self.kept_back_by = key",
        "self.kept_back_by = self.kept_back_by or key",
    ),
    Fault(
        "the key that kept back is remembered wrong",
        ForRoom,
        "is_kept_back",
        "self.kept_back_by = key",
        "self.kept_back_by = keys[0]",
    ),
    Fault("who waits for a shard is forgotten", Waiting, "settle", "self._ready.extend(held)", "pass"),
    Fault("a grant does not look at shards", Waiting, "settle", "self.cache.being_worked_on(first.sums)", "False"),
    Fault("the next is not looked at", ForRoom, "leave", "self.waiting.freed(key)", "pass"),
    Fault("acquire overtakes", commands, "acquire", "if not queues or queues.keys().isdisjoint(sums):", "if True:"),
    Fault("try_incr overtakes", Cache, "try_incr", "if queues and not", "if False and not"),
    Fault("a wait is ended in its place", Waiter, "end", "self.leave()", "pass"),
    Fault("an end of a wait wakes nobody", Waiter, "end", "self.waiting.settle(now_ms, SETTLED_AT_ONCE)", "pass"),
    Fault("a decrement wakes nobody", Cache, "decr", "if key in self.waiting.queues:", "if False:"),
    Fault("a smaller counter in a batch wakes nobody", Cache, "fell", "self.waiting.freed(key)", "pass"),
    Fault("a batch of decrements wakes nobody", batch, "take_from_all", "if queues and key in queues:", "if False:"),
    Fault("a mixed batch wakes nobody", batch, "apply_each", "if queues and by < 0 and key in queues:", "if False:"),
    Fault("a batch wakes at its end", Cache, "apply_item", "if self.waiting.unsettled:", "if False:"),
    Fault("a smaller value wakes nobody", Cache, "set", "if value < before and", "if False and"),
    Fault("expired ones are overtaken", Channel, "turn", "if cache.waiting.unsettled:", "if False:"),
    Fault("expiry wakes nobody", Cache, "expire", "self.waiting.absent(key)", "pass"),
    Fault("clear wakes nobody", Cache, "clear", "self.waiting.all_absent()", "pass"),
    Fault("clear wakes no wait for zero", Waiting, "all_absent", "self._woken.extend(woken)", "pass"),
    Fault("a lazy zero wakes nobody", Cache, "zeroed", "self.waiting.absent(key)", "pass"),
    Fault("an eviction wakes nobody", Cache, "_evict", "self.waiting.absent(key)", "pass"),
    Fault(
        "what expired meanwhile is not absent", ForZero, "outcome", "or waiting.cache.expired(self.key, now_ms)", ""
    ),
    Fault(
        "the fast loop passes by who waits",
        Channel,
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
    Fault("what follows does not wait for a batch", Channel, "turn", "and self.session.batch is None", ""),
    Fault(
        "a batch is lost with its connection",
        Sessions,
        "leave",
        "session.channel = None",
        "session.channel = session.batch = None",
    ),
    Fault("a portion does not look at shards", Channel, "_go_on_with_batch", "if cache.locks.held:", "if False:"),
    # holds
    Fault(
        "a release in parts gives back twice", Session, "_give_back", "if by < held:", "if by < held or hold.amounts:"
    ),
    Fault(
        "the end of a session gives back twice",
        Session,
        "give_back",
        "done += len(live) + 1",
        "[cache.decr(key, live[key], False, now_ms) for key in live]; done += 1",
    ),
    Fault(
        "the end of a session does not look at shards",
        Session,
        "give_back",
        "cache.being_worked_on(hold.amounts)",
        "False",
    ),
    Fault(
        "a part gives back the whole", Session, "_give_back", "self.cache.decr(key, by,", "self.cache.decr(key, held,"
    ),
    Fault(
        "more is released than is held", Session, "release", "if live.get(key, 0) < by:", "if not live.get(key, 0):"
    ),
    Fault("a release goes to a newer life", Session, "live_amounts", "lives.get(key) is life", "key in lives"),
    Fault("a release goes to any life", Session, "live_amounts", "lives.get(key) is life", "True"),
    Fault("a hold outlives its counter", Waiting, "absent", "self.lives.pop(key, None)", "pass"),
    Fault("holds outlive clear", Waiting, "all_absent", "self.lives = {}", "pass"),
    Fault("a life ends with its first hold", Session, "_let_go", "not life.holds and", ""),
    Fault(
        "a hold is anybody's",
        Session,
        "release",
        "hold = self.holds.get(number)",
        "hold = {n: each for one in self.engine.sessions for n, each in one.holds.items()}.get(number)",
    ),
    # the end
    Fault("a session that has ended stays in the queues", Sessions, "_empty", "waiter.leave()", "pass"),
    Fault("what ended sessions hold wakes nobody", Sessions, "_empty", "if waiting.unsettled:", "if False:"),
    Fault(
        "a session that has ended is forgotten", Sessions, "step", "if session.parked or session.holds:", "if False:"
    ),
    Fault("a session is known after its end", Sessions, "end", "self._by_id.pop(session.id, None)", "pass"),
]
