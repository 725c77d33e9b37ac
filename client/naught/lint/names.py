"""Name resolution: the scopes of a module, and the scope that each name in it refers to.

`Names` makes one pass over the syntax tree. The pass is not recursive, because code that Python itself can read may
be thousands of nodes deep (a chain of `elif`, a long sum of strings). It notes the parent of every node and the scope
in which the node is evaluated, and the names that each scope binds. Afterwards `resolve` finds the scope of a name as
the interpreter would: global and nonlocal statements count, functions do not see the body of the class around them,
and the first iterable of a comprehension is evaluated outside the comprehension's scope.

`qualified` returns the dotted name of an imported object (`c.Counter` after `import collections as c` is
`collections.Counter`), and the bare name of a builtin that no scope binds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Fields that hold no node, or one that only qualifies its parent: the parser uses the same object for many parents.
NO_NODES = frozenset(
    {
        "ctx", "op", "ops", "id", "attr", "kind", "type_comment", "arg", "level", "module", "conversion", "rest",
        "simple", "is_async", "type_ignores", "kwd_attrs", "name", "names", "asname", "str",
    }
)  # fmt: skip
# Statements and expressions that assign, or pass a value on.
ASSIGNING = frozenset(
    {
        ast.Assign,
        ast.AnnAssign,
        ast.AugAssign,
        ast.NamedExpr,
        ast.For,
        ast.AsyncFor,
        ast.comprehension,
        ast.withitem,
        ast.Call,
    }
)
# Nodes whose children are evaluated in different scopes.
SCOPED = frozenset({*FUNCTIONS, ast.Lambda, ast.ClassDef, *COMPREHENSIONS, ast.comprehension})
# Nodes that bind names.
BINDING = frozenset(
    {
        *FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.ExceptHandler,
        ast.MatchAs, ast.MatchStar, ast.MatchMapping,
    }
)  # fmt: skip
# Expressions that can refer to a map.
REFERRING = frozenset({ast.Name, ast.Attribute, ast.Subscript, ast.Call})


@dataclass(eq=False, slots=True)
class Scope:
    """One scope: a module, class, function, lambda or comprehension."""

    node: ast.AST
    number: int
    """Counts the scopes in the order of the source; the module is 0."""
    parent: Scope | None
    """The scope around this one."""
    bound: set[str] = field(default_factory=set)
    """The names that are assigned, imported, defined or deleted here."""
    declared: dict[str, str] = field(default_factory=dict)
    """The names that are declared `global` or `nonlocal` here, and which of the two."""
    imports: dict[str, str] = field(default_factory=dict)
    """The names that are imported here, and the dotted name of each."""
    definitions: dict[str, ast.AST] = field(default_factory=dict)
    """The functions and classes that are defined here; the last definition of a name counts."""

    @property
    def is_class(self) -> bool:
        """Whether this is the body of a class."""
        return isinstance(self.node, ast.ClassDef)

    @property
    def function(self) -> Scope:
        """The function, class body or module that this scope's code runs in: for a comprehension the one around it,
        otherwise the scope itself."""
        scope = self
        while isinstance(scope.node, COMPREHENSIONS) and scope.parent is not None:
            scope = scope.parent
        return scope


class Names:
    """The scopes of one module."""

    def __init__(self, tree: ast.Module) -> None:
        # The scope of the module itself.
        self.module = Scope(tree, 0, None)
        # Every scope, by the node that opens it, in the order of the source.
        self.scopes: dict[ast.AST, Scope] = {tree: self.module}
        # The parent of each node.
        self.parents: dict[ast.AST, ast.AST] = {}
        # The scope in which each node is evaluated.
        self.scope_of: dict[ast.AST, Scope] = {tree: self.module}
        # The nodes that assign, those that can refer to a map, and the calls, in the order of the source.
        self.assigning: list[ast.AST] = []
        self.referring: list[ast.expr] = []
        self.calls: list[ast.Call] = []
        # Identifier -> the names that are written so, in the order of the source.
        self.written_as: dict[str, list[ast.Name]] = {}
        # The same by scope number, of the identifiers that were asked for: a large module has many `self`.
        self._named: dict[str, dict[int, list[ast.Name]]] = {}
        self._read(tree)

    # -- the pass ------------------------------------------------------------------------------------------

    def _read(self, tree: ast.Module) -> None:
        """Make the pass. This loop takes most of the checker's time, so it looks types up instead of testing them."""
        parents, scope_of, fields = self.parents, self.scope_of, _FIELDS
        pending: list[tuple[Any, Scope]] = [(tree, self.module)]
        while pending:
            node, scope = pending.pop()
            kind = type(node)
            scope_of[node] = scope
            if kind is ast.Name:
                self.written_as.setdefault(node.id, []).append(node)
                self.referring.append(node)
                if type(node.ctx) is not ast.Load:
                    self._bind(node, scope)
                continue
            if kind is ast.Constant:
                continue
            if kind in REFERRING:
                self.referring.append(node)
            if kind in ASSIGNING:
                self.assigning.append(node)
                if kind is ast.Call:
                    self.calls.append(node)
            if kind in BINDING:
                self._bind(node, scope)
            children: list[tuple[Any, Scope]] = []
            if kind in SCOPED:
                children.extend(self._children(node, scope))
            else:
                for name in fields.get(kind) or _fields(kind):
                    value = getattr(node, name, None)
                    if type(value) is list:
                        children += [(child, scope) for child in value if child is not None]
                    elif value is not None:
                        children.append((value, scope))
            for child, _ in children:
                parents[child] = node
            children.reverse()
            pending += children

    def _open(self, node: ast.AST, parent: Scope) -> Scope:
        scope = Scope(node, len(self.scopes), parent)
        self.scopes[node] = scope
        return scope

    def _children(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
        """Return the children of a node that opens a scope, each with the scope in which it is evaluated."""
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            inner = self._open(node, scope)
            arguments = node.args
            inner.bound.update(argument.arg for argument in all_arguments(arguments))
            outside: list[ast.AST | None] = [*arguments.defaults, *arguments.kw_defaults]
            if isinstance(node, FUNCTIONS):
                outside += node.decorator_list
                outside += [argument.annotation for argument in all_arguments(arguments)]
                outside.append(node.returns)
            yield from ((child, scope) for child in outside if child is not None)
            body = node.body if isinstance(node.body, list) else [node.body]
            yield from ((child, inner) for child in body)
        elif isinstance(node, ast.ClassDef):
            inner = self._open(node, scope)
            yield from ((child, scope) for child in [*node.decorator_list, *node.bases, *node.keywords])
            yield from ((child, inner) for child in node.body)
        elif isinstance(node, COMPREHENSIONS):
            # Generators first, because they bind the names that the element reads.
            inner = self._open(node, scope)
            yield from ((generator, inner) for generator in node.generators)
            if isinstance(node, ast.DictComp):
                yield from ((node.key, inner), (node.value, inner))
            else:
                yield node.elt, inner
        elif isinstance(node, ast.comprehension):
            comprehension = scope.node
            assert isinstance(comprehension, COMPREHENSIONS)
            assert scope.parent is not None
            first = comprehension.generators[0] is node
            yield node.iter, scope.parent if first else scope
            yield from ((child, scope) for child in [node.target, *node.ifs])

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        """Note the names that a node binds."""
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                # An assignment expression binds outside the comprehensions around it.
                by_walrus = isinstance(self.parents.get(node), ast.NamedExpr)
                (scope.function if by_walrus else scope).bound.add(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            scope.bound.add(node.name)
            scope.definitions[node.name] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                scope.bound.add(name)
                scope.imports[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                scope.bound.add(alias.asname or alias.name)
                scope.imports[alias.asname or alias.name] = f"{source}.{alias.name}"
        elif isinstance(node, ast.Global | ast.Nonlocal):
            how = "global" if isinstance(node, ast.Global) else "nonlocal"
            scope.declared.update((name, how) for name in node.names)
            if how == "global":
                self.module.bound.update(node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            scope.bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            scope.bound.add(node.rest)

    # -- resolution ----------------------------------------------------------------------------------------

    def resolve(self, name: str, scope: Scope) -> Scope | None:
        """Return the scope that binds `name` as seen from `scope`; None for a builtin."""
        here: Scope | None = scope
        while here is not None:
            declared = here.declared.get(name)
            if declared == "global":
                return self.module
            if declared is None and name in here.bound and (here is scope or not here.is_class):
                return here
            here = here.parent
        return None

    def qualified(self, expression: ast.expr) -> str | None:
        """Return the dotted name of an imported object or a builtin; None for any other expression."""
        attributes: list[str] = []
        # No import has so many dots. Without a limit, a chain of n attributes would be walked n times.
        while isinstance(expression, ast.Attribute) and len(attributes) < 16:
            attributes.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        owner = self.resolve(expression.id, self.scope_of[expression])
        if owner is None:
            base: str | None = expression.id
        else:
            base = owner.imports.get(expression.id)
        return None if base is None else ".".join([base, *reversed(attributes)])

    def definition(self, name: ast.Name) -> ast.AST | None:
        """Return the function or class of this module that a name refers to."""
        owner = self.resolve(name.id, self.scope_of[name])
        return owner.definitions.get(name.id) if owner is not None else None

    def method_class(self, scope: Scope) -> ast.ClassDef | None:
        """Return the class whose method `scope` is; None if it is no method."""
        if isinstance(scope.node, FUNCTIONS) and scope.parent is not None:
            node = scope.parent.node
            return node if isinstance(node, ast.ClassDef) else None
        return None

    def is_within(self, node: ast.AST, scope: Scope) -> bool:
        """Whether a node is evaluated in a scope or in one inside it."""
        here: Scope | None = self.scope_of.get(node)
        while here is not None:
            if here is scope:
                return True
            here = here.parent
        return False

    def named(self, name: str, scope: Scope) -> list[ast.Name]:
        """Return the names that are written so in a scope and in those inside it, in the order of the source."""
        by_scope = self._named.get(name)
        if by_scope is None:
            by_scope = self._named[name] = {}
            for node in self.written_as.get(name, ()):
                here: Scope | None = self.scope_of[node]
                while here is not None:
                    by_scope.setdefault(here.number, []).append(node)
                    here = here.parent
        return by_scope.get(scope.number, [])

    def statement(self, node: ast.AST) -> ast.AST:
        """Return the statement that a node is part of."""
        while not isinstance(node, ast.stmt) and node in self.parents:
            node = self.parents[node]
        return node

    def ancestors(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """Return pairs of (child, parent) from a node upwards, to the function, class or module around it."""
        while node in self.parents:
            parent = self.parents[node]
            yield node, parent
            if isinstance(parent, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
                return
            node = parent


_FIELDS: dict[type[Any], tuple[str, ...]] = {}
"""The type of a node -> the names of the fields that hold its children; filled by `_fields`."""


def _fields(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields that hold the children of nodes of a type."""
    if kind not in _FIELDS:
        # The name of a type alias is a node, and the value of a singleton pattern is none.
        names = [name for name in kind._fields if name not in NO_NODES or kind.__name__ == "TypeAlias"]
        _FIELDS[kind] = () if kind is ast.MatchSingleton else tuple(names)
    return _FIELDS[kind]


def all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    """Return every parameter of a function, including the starred ones."""
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]
