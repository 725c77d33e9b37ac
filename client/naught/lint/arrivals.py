"""Whether keys keep coming into a map: only then can its entries pile up.

`keys` asks whether a key is certainly one of a few. This module asks for the opposite, because most keys of which it
is not certain are one of a few all the same: names of plugins, models, columns, what a configuration lists. A map
passes if the source gives a reason to expect new keys for as long as the program runs, and none against it.

For it, in what a key is made from, traced back through assignments, loops and calls in this module:

- an identity by its name: `user`, `job_id`, `peer.address`; or one that the program makes: `uuid4()`, `id(x)`;
- a message or a request: `message["room"]`;
- that the module takes the same key out of another map or collection: keys go, so others come;
- in a program of one file, that it is an argument of a public function. In a package the other modules choose it, and
  they mostly pass names of its own parts.

Against it: that it comes from a configuration; that the program compares it with literals or passes a literal for it;
that it is used as the name of an attribute, of a module or of an argument.
"""

from __future__ import annotations

import ast
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum, IntEnum, auto
from functools import cached_property
from pathlib import Path

from naught.lint.finding import words
from naught.lint.flow import Flow
from naught.lint.keys import CONVERSIONS, VARIANTS, words_of
from naught.lint.names import FUNCTIONS, Scope, all_arguments
from naught.lint.places import Place, first_argument
from naught.lint.uses import Action, TrackedMap

# The last word in the name of what there may be any number of, because they come and go: people and what they send,
# connections, jobs; and what tells one of many from the others. Not the numbers of threads, processes and open files,
# because the system gives the same ones again.
IDENTITIES = frozenset(
    words("""
    id uid uuid guid gid sid cid rid mid jid oid nid ident identity identifier token nonce hash digest sha
    checksum fingerprint number serial
    user username client customer account member player guild peer sender recipient receiver author owner visitor
    caller callee buyer tenant email phone contact friend participant person people
    session connection conn socket sock websocket ws handle addr address ip hostname host remote url uri
    domain
    request req job task ticket transaction txn span trace run message msg room chat conversation dialog
    subscription subscriber device transfer download upload
    """)
)
# Those of them that have names, and that the program does not name.
NAMED = frozenset(
    words("user client customer account member player guild peer room chat host domain tenant session subscriber")
)
# What a program is sent.
MESSAGES = frozenset(words("request req message msg packet pkt interaction payload datagram"))
# Functions that make a new identity, or say who is at the other end.
MAKING = frozenset(words("uuid.uuid1 uuid.uuid4 uuid.uuid7 id hash secrets.token_hex secrets.token_urlsafe"))
ASKING = frozenset(words("getpeername get_extra_info get_remote_address hexdigest accept recv receive"))
# The last word in the name of a function whose result has its argument in it. Another, such as `shard_of(user)`, may
# have few results.
KEEPING = frozenset(words("key id hash digest normalize normalise canonicalize canonicalise join quote tuple"))
# Functions whose argument is the name of a part of the program.
NAMING = frozenset(
    words("getattr setattr hasattr delattr importlib.import_module __import__ operator.attrgetter globals locals")
)
# Names that say nothing of what they name, so that two of them need not be the same.
ANY_NAMES = frozenset(words("key k name n item i value v x each it"))
TAKING_OUT = frozenset(words("pop remove discard __delitem__"))
# How many files in a folder are asked whether they import a module.
BESIDE_MAX = 200
# How far a key is traced back.
STEPS_MAX = 6


class Link(IntEnum):
    """How the value of an expression comes into a key that is made from it."""

    ARGUMENT = auto()
    """A function is given it: `user` in `shard_of(user)`."""
    WHOLE = auto()
    """The key is a part of it: `request` in `request.user`."""
    VALUE = auto()
    """The key has its value: `user` in `f"{user}:{n}"`."""


class Reason(Enum):
    """What the source says of the number of keys."""

    IDENTITY = auto()
    MADE = auto()
    MESSAGE = auto()
    GONE = auto()
    ARGUMENT = auto()
    PART = auto()


MANY = frozenset({Reason.IDENTITY, Reason.MADE, Reason.MESSAGE, Reason.GONE})


class Arrivals:
    """Answers the question for the maps of one module."""

    def __init__(self, flow: Flow, path: str) -> None:
        # The questions about expressions.
        self.flow = flow
        # The path of the module.
        self._path = path
        # Map -> what the source says of its keys.
        self._reasons: dict[Place, frozenset[Reason]] = {}
        # What the module takes out of maps and collections, by its name; filled when it is first asked for.
        self._taken: dict[str, list[ast.expr]] | None = None

    def keep_coming(self, tracked: TrackedMap) -> bool:
        """Whether new keys are expected for as long as the program runs."""
        if tracked.local:
            return True  # its size is wrong, however few the keys are
        found = self.reasons(tracked)
        if Reason.PART in found:
            return False
        return bool(found & MANY) or (Reason.ARGUMENT in found and not self.is_imported)

    @cached_property
    def is_imported(self) -> bool:
        """Whether other modules may call the functions of this one: then they choose the arguments."""
        return is_imported(self._path)

    def reasons(self, tracked: TrackedMap) -> frozenset[Reason]:
        """Return what the source says of the keys of a map."""
        if tracked.place not in self._reasons:
            self._reasons[tracked.place] = frozenset(
                reason for key in self.keys(tracked) for reason in self._of_key(key, tracked)
            )
        return self._reasons[tracked.place]

    def keys(self, tracked: TrackedMap) -> list[ast.expr]:
        """Return the keys of a map that are not surely one of a few, and those of the map that has it as an entry."""
        found = [use.key for use in tracked.uses if use.key is not None]
        # The keys that `subtract` and `update` are given at once.
        found += [use.value for use in tracked.did(Action.SUBTRACT, Action.UPDATE) if use.value is not None]
        if tracked.kind.name == "gauge":  # the values of its labels
            calls = [use.node for use in tracked.did(Action.READ) if isinstance(use.node, ast.Call)]
            found = [each for call in calls for each in (*call.args, *(word.value for word in call.keywords))]
        found = [key for key in found if not self.flow.is_fixed(key)]
        return found + (self.keys(tracked.above) if tracked.above is not None else [])

    def _of_key(self, key: ast.expr, tracked: TrackedMap) -> set[Reason]:
        steps = self.trace(key)
        found = {reason for step, link in steps for reason in self._of_step(step, link)}
        if any(link > Link.ARGUMENT and self.flow.is_configuration(step) for step, link in steps):
            return found - MANY  # a map may have other keys besides
        if self._is_taken_elsewhere(key, tracked):
            found.add(Reason.GONE)
        if self._is_given(steps):
            found.add(Reason.ARGUMENT)
        return found

    # -- what a key is made from ---------------------------------------------------------------------------

    def trace(self, key: ast.expr) -> list[tuple[ast.expr, Link]]:
        """Return a key and the expressions that it is made from, each with how its value comes into the key."""
        pending, seen = [(key, Link.VALUE, 0)], set()
        found: list[tuple[ast.expr, Link]] = []
        while pending:
            expression, link, steps = pending.pop(0)
            if expression in seen or steps > STEPS_MAX or isinstance(expression, ast.Constant):
                continue
            seen.add(expression)
            found.append((expression, link))
            pending += [(each, min(link, how), steps + 1) for each, how in self._made_from(expression)]
        return found

    def _made_from(self, expression: ast.expr) -> Iterator[tuple[ast.expr, Link]]:
        flow = self.flow
        match expression:
            case ast.Name():
                yield from ((each, Link.VALUE) for each in flow.assigned(expression))
                yield from ((each, Link.VALUE) for each in flow.passed_for(expression))
                yield from ((each, Link.WHOLE) for each in self._unpacked(expression))
            case ast.Attribute(value=of) | ast.Subscript(value=of):
                yield of, Link.WHOLE
            case ast.Await(value=of) | ast.Starred(value=of) | ast.NamedExpr(value=of) | ast.FormattedValue(value=of):
                yield of, Link.VALUE
            case ast.Call(func=function, args=arguments):
                keeps = flow.names.qualified(function) in CONVERSIONS or last_word(_called(function)) in KEEPING
                how = Link.VALUE if keeps else Link.ARGUMENT
                yield from ((each, how) for each in arguments)
                yield from ((word.value, how) for word in expression.keywords)
                if isinstance(function, ast.Attribute):
                    yield function.value, Link.VALUE if function.attr in VARIANTS else Link.WHOLE
            case ast.List(elts=parts) | ast.Set(elts=parts) | ast.Tuple(elts=parts):
                yield from ((each, Link.VALUE) for each in parts)
            case ast.BoolOp(values=parts) | ast.JoinedStr(values=parts):
                yield from ((each, Link.VALUE) for each in parts)
            case ast.Dict(keys=parts):
                yield from ((each, Link.VALUE) for each in parts if each is not None)
            case ast.BinOp(left=one, right=other) | ast.IfExp(body=one, orelse=other):
                yield one, Link.VALUE
                yield other, Link.VALUE

    def _unpacked(self, name: ast.Name) -> Iterator[ast.expr]:
        """Return what a name is unpacked from, or what the loop runs over whose variable it is."""
        flow = self.flow
        for each in flow.names.named(name.id, flow.names.scope_of[name].function):
            if isinstance(each.ctx, ast.Load):
                continue
            target: ast.AST = each
            parent = flow.names.parents[each]
            while isinstance(parent, ast.Tuple | ast.List | ast.Starred):
                target, parent = parent, flow.names.parents[parent]
            if isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension) and parent.target is target:
                yield parent.iter
            elif isinstance(parent, ast.Assign) and target is not each:
                yield parent.value
            elif isinstance(parent, ast.withitem):
                yield parent.context_expr

    # -- reasons -------------------------------------------------------------------------------------------

    def _of_step(self, step: ast.expr, link: Link) -> Iterator[Reason]:
        """Return what one of the expressions says that a key is made from."""
        name = _called(step)
        if isinstance(step, ast.Name) and last_word(name) in MESSAGES:
            yield Reason.MESSAGE
        if isinstance(step, ast.Name) and (self._is_keywords(step) or (link is Link.VALUE and self._is_part(step))):
            yield Reason.PART
        if link is not Link.VALUE:
            return
        if isinstance(step, ast.Call) and self.flow.names.qualified(step.func) in MAKING:
            yield Reason.MADE
        if _is_identity(name) or (isinstance(step, ast.Call) and name in ASKING):
            yield Reason.IDENTITY

    def _is_given(self, steps: list[tuple[ast.expr, Link]]) -> bool:
        """Whether a key is made only from arguments of public functions, and not from the program's state."""
        given = [
            link > Link.ARGUMENT and self._is_argument(each)
            for each, link in steps
            if isinstance(each, ast.Name) and not any(self._made_from(each)) and self._owner(each) is not None
        ]
        return bool(given) and all(given)

    def _owner(self, name: ast.Name) -> Scope | None:
        names = self.flow.names
        return names.resolve(name.id, names.scope_of[name])

    def _is_argument(self, name: ast.Name) -> bool:
        owner = self._owner(name)
        if owner is None or not isinstance(owner.node, FUNCTIONS):
            return False
        function = owner.node
        if function.name.startswith("_") and not function.name.endswith("__"):
            return False
        own = first_argument(owner) if owner.parent is not None and owner.parent.is_class else None
        return name.id != own and name.id in {each.arg for each in all_arguments(function.args)}

    def _is_taken_elsewhere(self, key: ast.expr, tracked: TrackedMap) -> bool:
        """Whether the module takes the same key out of another map or collection."""
        name = _called(key)
        if not name or last_word(name) in ANY_NAMES:
            return False
        if self._taken is None:
            self._taken = defaultdict(list)
            for taken, of in self._all_taken():
                self._taken[_called(taken)].append(of)
        return any(self.flow.uses.map(of) is not tracked for of in self._taken.get(name, ()))

    def _all_taken(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        names = self.flow.names
        for node in names.referring:
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Del):
                yield node.slice, node.value
        for call in names.calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr in TAKING_OUT and call.args:
                yield call.args[0], call.func.value

    def _is_keywords(self, name: ast.Name) -> bool:
        """Whether a name has the keyword arguments of a call, `**values`: the program writes their names."""
        owner = self._owner(name)
        if owner is None or not isinstance(owner.node, FUNCTIONS):
            return False
        keywords = owner.node.args.kwarg
        return keywords is not None and keywords.arg == name.id

    def _is_part(self, name: ast.Name) -> bool:
        """Whether a name is that of a part of the program: the function compares it with literals, or uses it as the
        name of an attribute or a module; or the module passes a literal for it."""
        flow = self.flow
        if any(_is_text(each) for each in flow.passed_for(name)):
            return True
        for each in flow.names.named(name.id, flow.names.scope_of[name].function):
            match flow.names.parents[each]:
                case ast.Call(func=function, args=arguments) if each in arguments:
                    if flow.names.qualified(function) in NAMING:
                        return True
                case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq(), *_], comparators=[right, *_]):
                    if _is_text(left) or _is_text(right):
                        return True
                case ast.Match(subject=subject) if subject is each:
                    return True
        return False


def is_imported(path: str) -> bool:
    """Whether a file belongs to a package, or another file beside or above it imports it."""
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isfile(path):
        return False
    if os.path.isfile(os.path.join(folder, "__init__.py")):
        return True
    module = os.path.splitext(name)[0]
    imports = re.compile(rf"^[ \t]*(?:from|import)\b.*\b{re.escape(module)}\b", re.MULTILINE)
    for beside in (folder, os.path.dirname(folder)):
        try:
            others = [each for each in Path(beside).glob("*.py") if each.name != name and each.is_file()]
            if any(imports.search(each.read_text("utf-8", "replace")) for each in others[:BESIDE_MAX]):
                return True
        except OSError:
            continue
    return False


def _called(expression: ast.expr) -> str:
    """Return the name that an expression ends with."""
    match expression:
        case ast.Attribute(value=of, attr="name"):
            return f"{_called(of)}_name"
        case ast.Call(func=ast.Attribute(attr="get" | "pop"), args=[ast.Constant(value=str() as name), *_]):
            return name
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
        case ast.Call(func=function):
            return _called(function)
    return ""


def _is_text(expression: ast.expr) -> bool:
    """Whether an expression is a literal text that is not empty."""
    return isinstance(expression, ast.Constant) and isinstance(expression.value, str) and bool(expression.value)


def _is_identity(name: str) -> bool:
    """Whether a name is that of one of many: `user`, `job_id`, `domain_name`."""
    last = last_word(name)
    if last == "name":
        return last_word(name[: name.lower().rindex("name")]) in NAMED
    return last in IDENTITIES


def last_word(name: str) -> str:
    """Return the last word of a name in the singular: `user` of `activeUsers` and of `user_2`."""
    found = [word for word in words_of(name) if not word.isdigit()]
    last = found[-1] if found else ""
    return last[:-1] if last.endswith("s") and not last.endswith("ss") and len(last) > 2 else last
