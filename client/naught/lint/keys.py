"""Whether the keys of a map are few: then the program names them itself, and their entries cannot pile up.

A key is one of a few if it is a constant, an item of a constant or of the configuration, the name of the host, of a
class or of a part of the program, if its name or its annotation says so (`status`, `SensorKind`), if it was compared
with constants, or if every call in the module passes such a key for it.
"""

from __future__ import annotations

import ast
import re

from naught.lint.finding import words
from naught.lint.names import FUNCTIONS, Scope, all_arguments
from naught.lint.places import first_argument
from naught.lint.sources import Sources
from naught.lint.uses import TrackedMap, Uses

# Names of things that have few values in any program.
FEW_VALUES = frozenset(
    words("""
    status state kind type level phase mode category severity priority color colour direction side method
    flag sign parity weekday month hour minute outcome stage role action operation op tier format
    event hook signal cls klass class scope namespace protocol attr attribute field property
    language lang locale encoding codec dialect algorithm transport backend driver section assistant
    platform arch architecture
    config conf cfg configuration setting settings option options profile route endpoint view rule command cmd
    plugin module extension provider vendor region zone env environment feature metric reason strategy policy unit
    dtype axis dim schema component integration tool model function func logger subsystem
    scheme service app application pri prio label role authrole flavor partition shard rank interface iface nic year
    ext charset country currency
    """)
)
# What is named by other programs and people, so that there may be any number of such names.
NAMED_FROM_OUTSIDE = frozenset(
    words("""
    user host room topic channel queue client peer session nick login account file job player guild member key
    group lock device thread connection path domain
    """)
)
# What a program is sent may be called so as a whole; a part of it that is named from outside has many values.
SENT = frozenset(words("event action command cmd op operation"))
# Functions that return the name of the host, by the last part of their name.
HOST = re.compile(r"^_*(get_?)?(local_?)?(host|node)_?(name)$")
# The last word in the name of a class that has few values: `SensorKind`.
FEW_INSTANCES = frozenset(words("Type Kind Status Mode Level Phase Severity Priority Enum Language Locale"))
LAST_WORD = re.compile(r"[A-Z][a-z]*$")
# Words between the name of the values and the name of the keys in a map's name: `jobs_by_state`.
BETWEEN = ("by", "per", "for")
# The names of maps whose keys are names of events.
BY_EVENT = re.compile(r"(event|signal|hook)s?_?(handler|listener|callback|observer|subscriber|receiver)s?$|hooks$")
# The names of maps whose keys are names of events if the keys are called names as well.
BY_EVENT_NAME = re.compile(
    r"(handler|listener|callback|observer|subscriber|receiver|responder|func|function|processor|event)s?$"
)
# Functions that have few results in one process.
FEW_RESULTS = frozenset(
    words("""
    type bool os.getpid os.getppid os.getuid os.getlogin os.uname os.getenv os.environ.get os.getcwd getpass.getuser
    socket.gethostname socket.getfqdn platform.node platform.system platform.machine platform.uname
    platform.python_version multiprocessing.current_process sys.getdefaultencoding locale.getlocale os.cpu_count
    """)
)
# What the environment of the process says.
FEW_OBJECTS = frozenset(words("os.environ sys.platform sys.version_info sys.argv os.name sys.executable os.sep"))
# Names of a configuration: what is read from one is one of a few.
CONFIGURATION = re.compile(
    r"(^|_)(config|configs|configuration|conf|cfg|settings?|options?|opts|environ|env|constants?|defaults?)$"
)
# Methods that return a variant of the text they are called on, and builtins that do the same with their argument.
VARIANTS = frozenset(
    words(
        """
        split rsplit partition lower upper strip lstrip rstrip title capitalize casefold replace encode decode format
        """
    )
)
CONVERSIONS = frozenset(words("str int repr bytes frozenset tuple sys.intern"))
# Builtins and methods whose items are those of what they are called with.
SAME_ITEMS = frozenset(words("list tuple set sorted reversed enumerate iter zip frozenset"))
# A word in a name.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})


class Keys(Sources):
    """Answers the question for one module."""

    def __init__(self, uses: Uses) -> None:
        super().__init__(uses)
        # Key -> the answer; False while it is being searched, because names can lead back to themselves.
        self._fixed: dict[ast.expr, bool] = {}

    def is_fixed(self, key: ast.expr | None) -> bool:
        """Whether a key is one of a few that the program itself names, so that its entries cannot pile up."""
        if key is None:
            return False
        if key not in self._fixed:
            self._fixed[key] = False
            self._fixed[key] = key in self.uses.own_keys or self._is_fixed(key)
        return self._fixed[key]

    def _is_fixed(self, key: ast.expr) -> bool:
        match key:
            case ast.Constant() | ast.Compare() | ast.Slice():
                return True
            case ast.UnaryOp():
                return isinstance(key.op, ast.Not) or self.is_fixed(key.operand)
            case ast.BinOp(op=ast.Mod(), right=ast.Constant()):
                return True
            case ast.BinOp(left=one, op=ast.Add() | ast.Mod(), right=other):
                return self.is_fixed(one) and self.is_fixed(other)
            case ast.Tuple(elts=parts) | ast.BoolOp(values=parts) | ast.JoinedStr(values=parts):
                return all(self.is_fixed(part) for part in parts)
            case ast.FormattedValue(value=value) | ast.NamedExpr(value=value):
                return self.is_fixed(value)
            case ast.IfExp(body=one, orelse=other):
                return self.is_fixed(one) and self.is_fixed(other)
            case ast.Attribute():
                return self._is_fixed_attribute(key)
            case ast.Subscript(slice=ast.Constant(value=str(part))) if _is_sent(key, part):
                return False
            case ast.Subscript(value=of):
                return self.is_configuration(of) or self._is_constant_object(of) or self.is_fixed(of)
            case ast.Call():
                return self._is_fixed_call(key)
            case ast.Name(id=name):
                return _is_constant(name) or has_few_values(name) or self._has_few_values(key)
        return False

    def _is_fixed_attribute(self, key: ast.Attribute) -> bool:
        match key:
            case ast.Attribute(attr="__class__" | "__name__" | "__qualname__" | "__module__"):
                return True
            case ast.Attribute(attr=name, value=ast.Name(id=owner)) if name.isupper() and owner[:1].isupper():
                return True
            case ast.Attribute(attr="value" | "name", value=ast.Attribute() | ast.Name() as of) if self.is_fixed(of):
                return True
            case ast.Attribute(attr="nodename", value=of) if self.is_fixed(of):
                return True
        if _is_constant(key.attr) or has_few_values(key.attr):
            return True
        if self.is_configuration(key.value) or self.names.qualified(key) in FEW_OBJECTS:
            return True
        values = self.uses.places.values_of(key)
        return bool(values) and all(self.is_fixed(value) for value in values)

    def _is_fixed_call(self, call: ast.Call) -> bool:
        function = call.func
        name = self.names.qualified(function)
        if name in FEW_RESULTS:
            return True
        last = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if not call.args and not call.keywords and HOST.match(last) is not None:
            return True
        if name == "typing.cast" and len(call.args) == 2:
            return self._is_enumeration(call.args[0]) or self.is_fixed(call.args[1])
        if name in CONVERSIONS:
            return bool(call.args) and self.is_fixed(call.args[0])
        if not isinstance(function, ast.Attribute):
            return False
        if function.attr in VARIANTS:
            return self.is_fixed(function.value)
        reads = function.attr.startswith("get")
        return reads and (self.is_configuration(function.value) or self._is_constant_object(function.value))

    def is_configuration(self, of: ast.expr) -> bool:
        """Whether an expression is a configuration, or a part of one: `self.config.limits`."""
        while isinstance(of, ast.Attribute | ast.Subscript | ast.Call):
            if isinstance(of, ast.Attribute) and CONFIGURATION.search(of.attr.lower()):
                return True
            of = of.func if isinstance(of, ast.Call) else of.value
        return isinstance(of, ast.Name) and CONFIGURATION.search(of.id.lower()) is not None

    def _is_constant_object(self, of: ast.expr) -> bool:
        """Whether an expression is a constant by its name, or the environment of the process."""
        name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
        # A map is a constant only by what is stored in it: `COUNTS` may be a global that grows.
        return self.names.qualified(of) in FEW_OBJECTS or (_is_constant(name) and self.uses.map(of) is None)

    def _has_few_items(self, iterated: ast.expr) -> bool:
        """Whether a loop runs over literals, constants, an enumeration or a configuration."""
        if isinstance(iterated, ast.Tuple | ast.List | ast.Set):
            return all(self.is_fixed(each) for each in iterated.elts)
        if isinstance(iterated, ast.Call):
            name = self.names.qualified(iterated.func)
            if name == "range":
                return True  # positions in something, which the map has no more of than that
            if name in SAME_ITEMS:
                return bool(iterated.args) and all(self._has_few_items(each) for each in iterated.args)
            if isinstance(iterated.func, ast.Attribute) and iterated.func.attr in (
                "items",
                "keys",
                "values",
                "split",
            ):
                return self._has_few_items(iterated.func.value)
            return self.is_configuration(iterated)
        if isinstance(iterated, ast.Name) and self._is_enumeration(iterated):
            return True
        return self._is_constant_object(iterated) or self.is_configuration(iterated)

    def has_few_keys(self, tracked: TrackedMap) -> bool:
        """Whether the map's name says that it has few keys (`jobs_by_state`), or the program writes keys out."""
        if any(self._is_written_out(use.key) for use in tracked.uses):
            return True
        if any(self._is_enumeration(key) for key in self.uses.key_annotations(tracked)):
            return True
        return any(
            has_few_values(tracked.name.rpartition(f"_{word}_")[2]) for word in BETWEEN if f"_{word}_" in tracked.name
        )

    def is_by_event(self, tracked: TrackedMap) -> bool:
        """Whether the map has listeners by the name of their event: `event_handlers`, `listeners[name]`.

        A program names its events itself, so they are few. Topics, in contrast, come from the publishers.
        """
        if BY_EVENT.search(tracked.name) is not None:
            return True
        return BY_EVENT_NAME.search(tracked.name) is not None and any(_is_name(use.key) for use in tracked.uses)

    def _is_written_out(self, key: ast.expr | None) -> bool:
        """Whether a key is a literal text, a constant or a member of an enumeration: then most probably all are."""
        if isinstance(key, ast.Attribute):
            return _is_constant(key.attr) and isinstance(key.value, ast.Name) and key.value.id[:1].isupper()
        if isinstance(key, ast.Name):
            return _is_constant(key.id)
        return isinstance(key, ast.Constant) and isinstance(key.value, str)

    def _has_few_values(self, name: ast.Name) -> bool:
        """Whether the value of a name is one of a few."""
        loops = list(self.loops(name))
        if loops and any(self._has_few_items(loop) for loop in loops):
            return True
        owner = self.names.resolve(name.id, self.names.scope_of[name])
        if owner is None:
            return False
        if name.id in owner.definitions or name.id in owner.imports:
            return True
        # For the value `f.__name__`, `f` decides: a program may be given any number of functions.
        value = self.only_value(name)
        if isinstance(value, ast.Attribute) and value.attr in ("__name__", "__qualname__"):
            value = value.value
        if value is not None and not loops and self.is_fixed(value):
            return True
        if self._is_compared_with_constants(name):
            return True
        if owner.parent is None:
            return self._is_assigned_once(name, owner)
        return isinstance(owner.node, FUNCTIONS) and self._is_fixed_parameter(name, owner)

    def _is_fixed_parameter(self, name: ast.Name, owner: Scope) -> bool:
        """Whether a parameter is annotated as an enumeration, or has a literal or constant as its default, or every
        call in the module passes one of a few values."""
        node = owner.node
        assert isinstance(node, FUNCTIONS)
        arguments = node.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            if (
                argument.arg == name.id
                and argument.annotation is not None
                and self._is_enumeration(argument.annotation)
            ):
                return True
        default = _default_of(name.id, arguments)
        if isinstance(default, ast.Constant) and isinstance(default.value, str) and default.value:
            return True
        if default is not None and not isinstance(default, ast.Constant) and self.is_fixed(default):
            return True
        passed = self.passed_for(name)
        return bool(passed) and all(self.is_fixed(each) for each in passed)

    def _is_assigned_once(self, name: ast.Name, module: Scope) -> bool:
        """Whether a global has one value for the whole run: only the module's own body assigns it, in no loop."""
        for each in self.names.named(name.id, module):
            if isinstance(each.ctx, ast.Load):
                continue
            if self.names.scope_of[each] is not module:
                if self.names.resolve(name.id, self.names.scope_of[each]) is module:
                    return False
            elif any(isinstance(parent, ast.For | ast.While) for _, parent in self.names.ancestors(each)):
                return False
        return True

    def _is_compared_with_constants(self, name: ast.Name) -> bool:
        """Whether the function asks if the name is in a collection of constants: `if unit not in UNITS: raise …`."""
        function = self.names.scope_of[name].function
        for each in self.names.named(name.id, function):
            parent = self.names.parents[each]
            if not isinstance(parent, ast.Compare) or parent.left is not each:
                continue
            if not isinstance(parent.ops[0], ast.In | ast.NotIn):
                continue
            among = parent.comparators[0]
            if isinstance(among, ast.Call) and isinstance(among.func, ast.Attribute) and among.func.attr == "keys":
                among = among.func.value
            if self.uses.map(among) is None and self._has_few_items(among):
                return True
        return False

    def _is_enumeration(self, annotation: ast.expr) -> bool:
        if isinstance(annotation, ast.Subscript):
            of = self.names.qualified(annotation.value) or ""
            return of == "type" or of.endswith((".Literal", ".Type"))
        called = annotation.attr if isinstance(annotation, ast.Attribute) else getattr(annotation, "id", "")
        last = LAST_WORD.search(called)
        if last is not None and last.group() in FEW_INSTANCES:
            return True
        if isinstance(annotation, ast.Name):
            definition = self.names.definition(annotation)
            if isinstance(definition, ast.ClassDef):
                return any(self.names.qualified(base) in ENUMS for base in definition.bases)
        return self.names.qualified(annotation) in ("bool", "type")

    def comes_from_outside(self, key: ast.expr) -> bool:
        """Whether a key is made only from arguments of a public function, and not from the program's state."""
        function = self.names.scope_of[key].function
        node, around = function.node, function.parent
        if not isinstance(node, FUNCTIONS) or around is None or isinstance(around.node, (*FUNCTIONS, ast.Lambda)):
            return False
        if node.name.startswith("_") and not node.name.endswith("__"):
            return False
        own = first_argument(function) if around.is_class else None
        given = {argument.arg for argument in all_arguments(node.args)} - {own}
        pending, seen, from_given = [key], set(), False
        while pending:
            for each in ast.walk(pending.pop()):
                if not isinstance(each, ast.Name) or each.id in seen:
                    continue
                seen.add(each.id)
                if each.id == own:
                    return False
                from_given = from_given or each.id in given
                pending += self.assigned(each)
                pending += list(self.loops(each))
        return from_given


def _default_of(name: str, arguments: ast.arguments) -> ast.expr | None:
    """Return the default of a parameter."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return next((default for argument, default in pairs if argument.arg == name), None)


def has_few_values(name: str) -> bool:
    """Whether the last word of a name says that it has few values: `status`, `job_status`, `eventType`."""
    parts = words_of(name)
    last = parts[-1] if parts else ""
    if last in ("name", "names") and len(parts) > 1:
        return parts[-2] not in NAMED_FROM_OUTSIDE  # the program names its own parts
    if last in ("id", "key") and len(parts) > 1:
        last = parts[-2]
    return last in FEW_VALUES


def _is_sent(key: ast.Subscript, part: str) -> bool:
    """Whether a key is a part of a message that is named from outside: `event["user"]`, `event["to"]["room"]`."""
    parts = words_of(part)
    if len(parts) > 1 and parts[-1] in ("id", "name", "key"):
        parts.pop()
    of = key.value
    while isinstance(of, ast.Subscript):
        of = of.value
    message = words_of(of.id)[-1:] if isinstance(of, ast.Name) and not of.id.isupper() else []
    return bool(parts and message) and parts[-1] in NAMED_FROM_OUTSIDE and message[0] in SENT


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters: `job`, `id` of `job_id`, `jobId` and `JobID`."""
    return [word.lower() for word in WORD.findall(name)]


def _is_name(key: ast.expr | None) -> bool:
    """Whether the last word of a key is "name": `name`, `event_name`, `signal.name`."""
    called = key.attr if isinstance(key, ast.Attribute) else key.id if isinstance(key, ast.Name) else ""
    return called.rstrip("_").rpartition("_")[2] == "name"


def _is_constant(name: str) -> bool:
    return name.isupper() and len(name) > 1
