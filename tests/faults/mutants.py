"""The mutants of a module: small changes to its code, one at a time.

Not made: bit operators, and others in place of `|` (on floats, types and dicts they raise at
once); any arithmetic but the inverse; `~1` and `not 1` for `-1`; an order in place of an
identity, or an identity in place of an equality; what only changes an annotation or which
arguments go by keyword, or does not compile without a warning. Cosmic Ray's operators change no
string and no name.
"""

import ast
import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso import parse
from parso.python.tree import Keyword

PACKAGE = Path(__file__).parents[2] / "functions" / "sms_cancel"
EQUIVALENT = Path(__file__).with_name("equivalent.txt")

_ORDER = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
CHANGES = {
    "ReplaceBinaryOperator": ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul"),
    "ReplaceComparisonOperator": (
        *(f"{one}_{other}" for one, other in permutations(_ORDER, 2)),
        "Is_IsNot",
        "IsNot_Is",
    ),
    "ReplaceUnaryOperator": ("Delete_Not", "Delete_USub"),
}


@dataclass(frozen=True)
class Mutant:
    module: str
    source: str
    text: str  # the changed line after its function's name, or what has been removed
    function: range | None  # the lines of its function; None: it takes effect at import

    def __str__(self) -> str:
        return f"{self.module}  {self.text}"

    @property
    def key(self) -> str:
        return _key(str(self))


class RemoveStatement(Operator):
    """Put ``pass`` in place of a statement that binds no local name: a call, return, raise …"""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "simple_stmt":
            first = node.children[0]
            acts = first.type in ("atom_expr", "raise_stmt", "return_stmt", "yield_expr")
            if acts or (first.type == "expr_stmt" and not _binds_a_name(first)):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _: int) -> Any:
        first = node.get_first_leaf()
        node.children[0] = Keyword("pass", first.start_pos, first.prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _binds_a_name(assignment: Any) -> bool:
    target, operator = assignment.children[:2]
    augments = operator.type == "operator" and operator.value != "="
    return target.type in ("name", "testlist_star_expr") and not augments


_OTHER = {"in": " not in", "not in": " in"}


class NegateMembership(Operator):
    """Put ``not in`` in place of ``in`` and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "comparison" and node.children[1].get_code().strip() in _OTHER:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _: int) -> Any:
        node.children[1] = parse(_OTHER[node.children[1].get_code().strip()])
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def operators() -> Iterator[Operator]:
    for name in operator_names():
        operator = get_operator(name)
        kind, _, change = name.removeprefix("core/").partition("_")
        if not operator.arguments() and change in CHANGES.get(kind, (change,)):
            yield operator()
    yield RemoveStatement()
    yield NegateMembership()


def mutants(module: str) -> Iterator[Mutant]:
    """Make each mutant of a module once, without those that change nothing or do not compile."""
    source = PACKAGE.joinpath(f"{module}.py").read_text()
    tree = get_ast(source)
    bodies = _bodies(source)
    seen = {_meaning(source)}
    for operator in operators():
        positions = [each for node in ast_nodes(tree) for each in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(positions):
            mutated = mutate_code(source, operator, occurrence)
            meaning = _meaning(mutated)
            if meaning and meaning not in seen:
                seen.add(meaning)
                within = [lines for body, lines in bodies if line in body]
                yield Mutant(
                    module, mutated, _change(source, mutated), within[-1] if within else None
                )


def equivalents() -> dict[str, str]:
    """Return the reason for each mutant that no test can kill, by its key.

    The file has each mutant as this command prints it, under a line that begins with "#" and
    says why; a reason holds for all mutants up to the next.
    """
    reasons, reason = {}, ""
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line.strip():
            reasons[_key(line)] = reason
    return reasons


def _bodies(source: str) -> list[tuple[range, range]]:
    """Return the lines of each function's body and of all of it, outer functions first."""
    return [
        (
            range(node.body[0].lineno, (node.end_lineno or 0) + 1),
            range(_first_line(node), (node.end_lineno or 0) + 1),
        )
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    ]


def _first_line(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(each.lineno for each in function.decorator_list)])


def _meaning(source: str) -> str:
    """Return the syntax tree without what is not made, empty where it does not compile quietly."""
    try:
        with warnings.catch_warnings(action="error"):
            compile(source, "mutant", "exec")
    except (SyntaxError, SyntaxWarning):
        return ""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arguments):  # Cosmic Ray takes the * of a signature for a product
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [each for each in (*node.defaults, *node.kw_defaults) if each]
            node.posonlyargs = node.kwonlyargs = node.kw_defaults = []
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _key(line: str) -> str:
    module, text = line.split(maxsplit=1)
    return f"{module} {''.join(text.split())}"  # Cosmic Ray puts spaces of its own


def _change(source: str, mutated: str) -> str:
    """Return what the mutant has instead, or what it is without, after the name of its function."""
    function = removed = added = ""
    for each in difflib.ndiff(source.splitlines(), mutated.splitlines()):
        mark, line = each[0], each[2:]
        if not (removed or added) and line.strip() and mark in " -":
            name = re.match(r"\s*def (\w+)", line)
            if name:
                function = f"{name[1]}: "
            elif line[0] not in " )":
                function = ""
        if mark == "-":
            removed = removed or line.strip()
        elif mark == "+":
            added = added or line.strip()
    line = f"without {removed}" if added in ("", "pass") else added
    return function + line
