"""Small changes, one at a time, to the code that decides: do the fast tests notice them?

Claim: at least 95 % of the mutants are killed, of those that change what the code does.

Not made: bit operators, and others in place of `|` (on floats, types and dicts they raise at
once); any arithmetic but the inverse; `~1` and `not 1` for `-1`; an order in place of an
identity, or an identity in place of an equality; what only changes an annotation, or does not
compile without a warning. Cosmic Ray's operators change no string and no name.
"""

import argparse
import ast
import difflib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import boto3  # noqa: F401  what takes long to import is imported once, before the forks
import moto.secretsmanager.models
import moto.sns.models
import moto.sqs.models  # noqa: F401  as above
import pytest
import requests  # noqa: F401  as above
import trustme  # noqa: F401  as above
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso import parse
from parso.python.tree import Keyword

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("functions", "infra", "tests", "pyproject.toml")
LEAST = 0.95
TEST_S = 60  # what one test may take; the slowest takes four on a quiet machine
PARALLEL = 2
# It counts open files and threads, and may fail without a mutation on a busy machine.
NOISY = "tests/test_smspartner.py::test_connections_are_kept_and_none_is_left_over"

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

# The tests that concern a module, those that kill soonest first.
TESTS = {
    "smspartner": ("interpret", "smspartner"),
    "cancellation": ("cancellation", "outcomes", "api", "hanging_aws"),
    "api_key": ("api_key", "cancellation", "hanging_aws"),
    "worker": ("worker", "outcomes", "cancellation", "hanging_aws"),
    "__init__": ("leaks", "cancellation", "outcomes", "api"),
    "telemetry": ("leaks", "cancellation", "outcomes", "api"),
}

REDIRECT = "300 has been dealt with before"
CHUNK = "the size of a chunk decides nothing"
CACHE = "it only spares time: the answer for a URL is always the same"
NO_MORE_THREADS = "a batch holds ten messages"
LAST_WORD = "it is the last of the three in the alphabet"
TUNED = "nothing hangs on one more or less"
LONG_SINCE = "the monotonic clock has left its first second long before"
FETCHED_FIRST = "it is read only after a fetch, which sets it"

# Mutants that no test can kill, by module and changed line, and why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "smspartner": {
        "_adapter = DeadlineAdapter(pool_maxsize=21)": NO_MORE_THREADS,
        "_adapter = DeadlineAdapter(pool_maxsize=19)": NO_MORE_THREADS,
        "cancel: request.prepare(), stream=False, timeout=timeout, verify=_VERIFY": (
            "only a Session heeds it, and here is none"
        ),
        'cancel: if answer_format > "json":': "only json and xml get there",
        "_outcome: if success and code == 200 and 200 <= status <= 300:": REDIRECT,
        "_outcome: if success and code == 200 and 200 <= status < 301:": REDIRECT,
        "_read: for chunk in response.raw.stream(4097, decode_content=False):": CHUNK,
        "_read: for chunk in response.raw.stream(4095, decode_content=False):": CHUNK,
        "@lru_cache(maxsize=2)": CACHE,
        "@lru_cache(maxsize=0)": CACHE,
        "without @lru_cache(maxsize=1)": CACHE,
    },
    "__init__": {
        "without _library.addHandler(logging.NullHandler())": (
            "each of these libraries adds one too, when it is imported"
        ),
    },
    "cancellation": {
        **dict.fromkeys(
            (
                "CONNECT_S = 4  # Lambda gives the start of an environment ten seconds",
                "CONNECT_S = 2  # Lambda gives the start of an environment ten seconds",
            ),
            "any few seconds will do",
        ),
        "prepare: connecting = Thread("
        "target=smspartner.connect, args=(CONNECT_S,), daemon=False)": "it is waited for",
        "report: /,": "who reports passes the rest by keyword all the same",
        "_ask: pause_s = PAUSE_S * 2*attempt * random.uniform(0.5, 1)": (
            "the pauses come before attempts 1 and 2, where both are 2 and 4"
        ),
        "_call: deadline_s = max(-1.0, min(CALL_DEADLINE_S, ends_at - called_at))": (
            "it is only called before the end"
        ),
        "_tell: without pool.shutdown(wait=False)": (
            "a pool that nobody holds any more ends its threads by itself"
        ),
    },
    "worker": {
        "MAX_THREADS = 21  # ten take 1.7 times as long for a hundred messages, forty no less"
        " (make bench)": TUNED,
        "MAX_THREADS = 19  # ten take 1.7 times as long for a hundred messages, forty no less"
        " (make bench)": TUNED,
        "RETRY_BEFORE_S = 11  # the cut-off: so long may the message take to come back": TUNED,
        "RETRY_BEFORE_S = 9  # the cut-off: so long may the message take to come back": TUNED,
        "handler: budget_s = context.get_remaining_time_in_millis() / 1001 - RESERVE_S": (
            "a hundredth of a second"
        ),
        "handler: budget_s = context.get_remaining_time_in_millis() / 999 - RESERVE_S": (
            "a hundredth of a second"
        ),
        "_handle: if time.monotonic() > ends_at:": "an instant",
        "@telemetry.logger.inject_lambda_context(log_event=False, clear_state=False)": (
            "nobody adds what could be cleared"
        ),
        "handler: for record, leaves in zip(records, leave_the_queue, strict=False)": (
            "they are always as many"
        ),
        "_max_receive_count: if not (value.isascii() and value.isdigit() and int(value) != 0):": (
            "digits make no number below it"
        ),
        "_dispose: def _dispose(record: Record, request: Request, result: Cancellation, /,"
        " is_late: bool) -> str:": "who disposes passes it by keyword all the same",
        '_handle: settled_at=None if disposition >= "retry" else time.time(),': LAST_WORD,
        '_handle: return disposition < "retry"': LAST_WORD,
        "_handle: is_late = (request.margin_s or 1) < 0": "neither 0 nor 1 is",
        "_handle: is_late = (request.margin_s or 0) < -1": "a second",
        "_handle: without return False": "None says the same",
        "_dead_letter: without return False": "None says the same",
    },
    "api_key": {
        "__init__: self._fetch_after = 1.0": LONG_SINCE,
        "prefetch: self._fetch_after = 1.0": LONG_SINCE,
        "prefetch: self._fetch_after = -1.0": LONG_SINCE,
        "__init__: self._fetch_after = -1.0": LONG_SINCE,
        "__init__: self._refetch_after = 1.0": LONG_SINCE,
        "__init__: self._refetch_after = -1.0": LONG_SINCE,
        "__init__: self._is_stale = True": FETCHED_FIRST,
        "__init__: without self._is_stale = False": FETCHED_FIRST,
    },
}


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


@dataclass(frozen=True)
class Mutant:
    module: str
    source: str
    line: str  # the changed line, or what has been removed

    def __str__(self) -> str:
        return f"{self.module:<13}{self.line}"

    @property
    def equivalent(self) -> str:
        """Why it cannot be killed, empty where it can."""
        reasons = EQUIVALENT.get(self.module, {}).items()
        return next((reason for line, reason in reasons if _bare(line) == _bare(self.line)), "")


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
    source = path(ROOT, module).read_text()
    tree = get_ast(source)
    seen = {_meaning(source)}
    for operator in operators():
        positions = [each for node in ast_nodes(tree) for each in operator.mutation_positions(node)]
        for occurrence in range(len(positions)):
            mutated = mutate_code(source, operator, occurrence)
            meaning = _meaning(mutated)
            if meaning and meaning not in seen:
                seen.add(meaning)
                yield Mutant(module, mutated, _changed_line(source, mutated))


def path(root: Path, module: str) -> Path:
    return root / "functions" / "sms_cancel" / f"{module}.py"


def _meaning(source: str) -> str:
    """Return the syntax tree without annotations, empty where it does not compile quietly."""
    try:
        with warnings.catch_warnings(action="error"):
            compile(source, "mutant", "exec")
    except (SyntaxError, SyntaxWarning):
        return ""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _bare(line: str) -> str:
    return "".join(line.split())  # Cosmic Ray puts spaces of its own


def _changed_line(source: str, mutated: str) -> str:
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


class Watch:
    """A pytest plugin: a test that takes too long ends the process, one that fails is named."""

    def __init__(self, killer: Path) -> None:
        self._killer = killer

    def pytest_runtest_logstart(self) -> None:
        signal.alarm(TEST_S)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._killer.write_text(report.nodeid)


def start(folder: Path, module: str) -> int:
    """Run the module's tests in a fork, in a copy of the project; return its process id."""
    killer = folder / "killer"
    killer.write_text("")
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = ""
        sys.dont_write_bytecode = True  # a .pyc is told from the next mutant's by whole seconds
        own = {str(ROOT), str(ROOT / "functions"), str(ROOT / "tests"), ""}
        sys.path = [each for each in sys.path if each not in own]
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        tests = [f"tests/test_{name}.py" for name in TESTS[module]]
        options = ["-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--deselect={NOISY}"]
        status = int(pytest.main([*options, *tests], plugins=[Watch(killer)]))
        if not sys.modules["sms_cancel"].__file__.startswith(str(folder)):
            status = 98
    finally:
        os._exit(status)  # without waiting for threads that hang


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    killed: bool
    by: str
    seconds: float


def try_all(chosen: list[Mutant], folders: list[Path]) -> Iterator[Verdict]:
    """Try the mutants, as many at a time as there are copies of the project."""
    free = list(folders)
    running: dict[int, tuple[Mutant, Path, float]] = {}
    waiting = chosen[::-1]
    while waiting or running:
        while waiting and free:
            mutant, folder = waiting.pop(), free.pop()
            path(folder, mutant.module).write_text(mutant.source)
            running[start(folder, mutant.module)] = mutant, folder, time.monotonic()
        pid, status = os.wait()
        mutant, folder, begun_at = running.pop(pid)
        path(folder, mutant.module).write_text(path(ROOT, mutant.module).read_text())
        by = folder.joinpath("killer").read_text()
        if os.WIFSIGNALED(status):
            by = f"signal {os.WTERMSIG(status)}"
        elif os.WEXITSTATUS(status) > 5:
            raise RuntimeError(f"the tests did not run, status {os.WEXITSTATUS(status)}")
        free.append(folder)
        yield Verdict(mutant, status != 0, by or "import", time.monotonic() - begun_at)


def copy(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "corpus")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="name each mutant's killer")
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="default: all")
    options = parser.parse_args()
    begun_at = time.monotonic()
    made = [each for module in options.modules for each in mutants(module)]
    chosen = [each for each in made if not each.equivalent]
    survived: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        folders = [copy(Path(folder) / f"copy{number}") for number in range(PARALLEL)]
        suites = {TESTS[each]: each for each in options.modules}
        originals = [Mutant(each, path(ROOT, each).read_text(), "") for each in suites.values()]
        for verdict in try_all(originals, folders):
            if verdict.killed:
                print(f"{verdict.mutant.module}: without a mutation {verdict.by} fails")
                return 1
        for verdict in try_all(chosen, folders):
            if not verdict.killed:
                survived.append(verdict.mutant)
            if options.verbose or not verdict.killed:
                fate = f"killed by {verdict.by}" if verdict.killed else "SURVIVED"
                print(f"{verdict.mutant}  {fate} ({verdict.seconds:.1f} s)", flush=True)
    for each in made:
        if each.equivalent:
            print(f"{each}  equivalent: {each.equivalent}")
    of_no_mutant = _of_no_mutant(made, options.modules)
    for line in of_no_mutant:
        print(f"{line}  is listed as equivalent, and is no mutant")
    for module in options.modules:
        count = sum(each.module == module for each in chosen)
        alive = sum(each.module == module for each in survived)
        print(f"{module:<13}{count - alive} of {count} killed")
    share = 1 - len(survived) / len(chosen)
    print(
        f"\n{len(chosen)} mutants in {time.monotonic() - begun_at:.0f} s: {share:.1%} killed, "
        f"{len(survived)} survived; {len(made) - len(chosen)} more are equivalent"
    )
    return 0 if share >= LEAST and not of_no_mutant else 1


def _of_no_mutant(made: list[Mutant], modules: list[str]) -> list[str]:
    """Return what the table of equivalent mutants lists and the code no longer gives rise to."""
    lines = {(each.module, _bare(each.line)) for each in made}
    return [
        f"{module:<13}{line}"
        for module in modules
        for line in EQUIVALENT.get(module, {})
        if (module, _bare(line)) not in lines
    ]


if __name__ == "__main__":
    sys.exit(main())
