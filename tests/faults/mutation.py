"""Small changes, one at a time, to the code that ships: do the fast tests notice them?

Claim: at least 95 % of the mutants are killed, of those that change what the code does. The
others are listed in equivalent.txt, each with the reason. Needs Linux, and Python 3.12 or newer.

Each mutant gets a fork of a process that has imported everything but our own code. It runs the
tests of its module (TESTS) that call the changed function, first those that killed other mutants
of the module, up to the first that fails.
"""

import argparse
import importlib.abc
import importlib.util
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import boto3
import hypothesis
import pytest
import requests  # noqa: F401  what takes long to import is imported once, before the forks
import trustme  # noqa: F401  as above
from aws_lambda_powertools.metrics import EphemeralMetrics  # noqa: F401  as above
from moto import mock_aws

from tests.faults.mutants import EQUIVALENT, PACKAGE, Mutant, equivalents, mutants

ROOT = PACKAGE.parents[1]
LEAST = 0.95
PARALLEL = 3  # some tests wait more than they work
# What a test may take: a mutant that never ends costs the first, a busy machine needs the second.
LIMIT_S, TIMES = 20, 10
MOST_BYTES = 4 << 30  # of memory, which a mutant may ask for without an end
EVERY = 25  # mutants between two lines of progress
# The tests that concern a module: tests/test_<name>.py.
TESTS = {
    "__init__": ("leaks", "cancellation", "outcomes", "api"),
    "alerts": ("outcomes", "cancellation", "api"),
    "answer": ("interpret", "watch"),
    "api": ("api", "outcomes", "events", "bulk", "worker"),
    "api_key": ("api_key", "cancellation", "hanging_aws"),
    "aws": ("hanging_aws", "api_key", "cancellation", "worker", "events"),
    "bulk": ("bulk", "hanging_aws"),
    "cancellation": ("cancellation", "outcomes", "api", "worker", "hanging_aws", "watch"),
    "deadline": ("smspartner",),
    "events": ("events",),
    "outcome": ("outcomes", "cancellation", "events"),
    "report": ("cancellation", "outcomes", "api", "events", "worker", "watch"),
    "request": ("worker", "bulk", "api", "cancellation", "events"),
    "smspartner": ("smspartner", "watch"),
    "telemetry": ("cancellation", "leaks", "outcomes", "api", "worker"),
    "watch": ("watch", "cancellation", "worker"),
    "worker": ("worker", "outcomes", "events", "cancellation", "hanging_aws"),
}
# They count open files and threads, and may fail without a mutation on a busy machine.
NOISY = ("test_connections_are_kept_and_none_is_left_over",)

Function = tuple[str, int]  # its module's file and its first line


@dataclass
class Test:
    seconds: float = 0.0
    calls: set[Function] = field(default_factory=set)


class Baseline:
    """A pytest plugin: how long each test takes, and which of our functions it calls."""

    def __init__(self) -> None:
        self.tests: dict[str, Test] = {}
        self.failed = ""
        self.at_import = self._current = Test()
        sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "mutation")
        start = sys.monitoring.events.PY_START
        sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, start, self._called)
        sys.monitoring.set_events(sys.monitoring.PROFILER_ID, start)

    def _called(self, code: CodeType, _: int) -> object:
        if code.co_filename.startswith(str(PACKAGE)):
            self._current.calls.add((Path(code.co_filename).stem, code.co_firstlineno))
        return sys.monitoring.DISABLE  # until the next test

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.alarm(0)
        self._current = self.tests[nodeid] = Test()
        sys.monitoring.restart_events()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tests[report.nodeid].seconds += report.duration
        if report.failed:
            self.failed = report.nodeid


class Chosen:
    """A pytest plugin: only the chosen tests, in their order; one that takes too long is killed."""

    def __init__(self, chosen: dict[str, float], result: Path) -> None:
        self._chosen = chosen
        self._result = result

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {nodeid: place for place, nodeid in enumerate(self._chosen)}
        items[:] = [each for each in items if each.nodeid in order]
        items.sort(key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._result.write_text(nodeid)
        signal.alarm(int(LIMIT_S + TIMES * self._chosen[nodeid]))


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has the mutant imported in its module's place; nothing is written to a disk."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        is_package = mutant.module == "__init__"
        self._name = "sms_cancel" if is_package else f"sms_cancel.{mutant.module}"
        self._path = str(PACKAGE / f"{mutant.module}.py")
        self._places = [str(PACKAGE)] if is_package else None

    def find_spec(self, name: str, *_: object) -> Any:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(
            name, self._path, loader=self, submodule_search_locations=self._places
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source, self._path, "exec"), module.__dict__)


def warm_up() -> None:
    """Have moto and botocore read what they read at their first use."""
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        del os.environ[name]
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    with mock_aws():
        client = boto3.Session(region_name="eu-west-3", **keys).client
        queue_url = client("sqs").create_queue(QueueName="queue")["QueueUrl"]
        client("sqs").send_message(QueueUrl=queue_url, MessageBody="{}")
        client("sns").create_topic(Name="topic")
        client("secretsmanager").create_secret(Name="key", SecretString="key")


def fork(work: Callable[[], int]) -> int:
    """Do some work in a process of its own, which nobody hears; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 99  # where pytest itself raises, as for a socket that nobody has closed
    try:
        os.setsid()  # so that what its tests start ends with it
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        signal.alarm(LIMIT_S)  # for the import; each test sets it anew
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.chdir(ROOT)
        # Plugins that are imported already cannot be loaded again; xdist declares a marker.
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        status = work()
    finally:
        os._exit(status)  # without waiting for threads that hang


def run_tests(file: str, plugin: object) -> int:
    options = ("-x", "-p", "no:cacheprovider", "-p", "xdist")
    deselected = [f"--deselect={file}::{each}" for each in NOISY]
    return int(pytest.main([*options, *deselected, file], plugins=[plugin]))


def measure(file: str, result: Path) -> int:
    """Run a file's tests without a mutation, and write down what they are."""
    baseline = Baseline()
    status = run_tests(file, baseline)
    measured = baseline.tests, baseline.at_import.calls, baseline.failed
    result.write_bytes(pickle.dumps(measured))
    return status


def try_files(mutant: Mutant, files: dict[str, dict[str, float]], result: Path) -> int:
    """Run the chosen tests of each file up to the first failure; write down the last test."""
    result.write_text("its import")
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, Changed(mutant))
    for file, chosen in files.items():
        status = run_tests(file, Chosen(chosen, result))
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return status
    return 0


def in_parallel(
    work: Iterator[tuple[Any, Callable[[Path], int]]],
) -> Iterator[tuple[Any, Path, int]]:
    """Do each piece in a fork, a few at a time; yield what it was for, its file, its status."""
    running: dict[int, tuple[Any, Path]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number, (what, task) in enumerate(work):
                result = Path(folder, str(number))
                running[fork(partial(task, result))] = what, result
                while len(running) >= PARALLEL:
                    yield _next_to_end(running)
            while running:
                yield _next_to_end(running)
        finally:
            for pid in running:
                _end(pid)


def _next_to_end(running: dict[int, tuple[Any, Path]]) -> tuple[Any, Path, int]:
    pid, status = os.wait()
    _end(pid)
    what, result = running.pop(pid)
    return what, result, status


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Suite:
    """The fast tests, and which of them to ask about a mutant."""

    def __init__(self) -> None:
        self._tests: dict[str, Test] = {}
        self._at_import: set[Function] = set()
        self._killers: dict[str, Counter[str]] = defaultdict(Counter)  # of each module

    def measure(self, chosen: list[str]) -> str:
        """Run the tests of these modules once; return the first that fails, or an empty text."""
        files = dict.fromkeys(file for module in chosen for file in _files(module))
        work = ((file, partial(measure, file)) for file in files)
        for file, result, status in in_parallel(work):
            if status:
                return _failed(result) or file
            tests, at_import, _ = pickle.loads(result.read_bytes())
            self._tests |= tests
            self._at_import |= at_import
            seconds = sum(each.seconds for each in tests.values())
            print(f"{file}: {len(tests)} tests, {seconds:.0f} s", flush=True)
        return ""

    def choose(self, mutant: Mutant) -> dict[str, dict[str, float]]:
        """Return the tests that can notice a mutant, by file, those that kill soonest first."""
        killers = self._killers[mutant.module]
        everybody = mutant.function is None or _is_among(mutant, self._at_import)
        files = {}
        for file in _files(mutant.module):
            tests = {each: test for each, test in self._tests.items() if _file(each) == file}
            calling = [
                each for each, test in tests.items() if everybody or _is_among(mutant, test.calls)
            ]
            ranked = sorted(
                calling, key=lambda each: (-killers[each], round(tests[each].seconds, 1))
            )
            files[file] = {each: tests[each].seconds for each in ranked}
        kills = {file: sum(killers[each] for each in chosen) for file, chosen in files.items()}
        return {
            file: files[file]
            for file in sorted(files, key=lambda file: -kills[file])
            if files[file]
        }

    def killed(self, mutant: Mutant, by: str) -> None:
        self._killers[mutant.module][by] += 1

    def tasks(self, chosen: list[Mutant]) -> Iterator[tuple[Mutant, Callable[[Path], int]]]:
        for mutant in chosen:
            yield mutant, partial(try_files, mutant, self.choose(mutant))


def _files(module: str) -> list[str]:
    return [f"tests/test_{name}.py" for name in TESTS[module]]


def _is_among(mutant: Mutant, calls: set[Function]) -> bool:
    """True if these calls of functions include the mutant's."""
    lines = mutant.function or range(0)
    return any(module == mutant.module and line in lines for module, line in calls)


def _failed(result: Path) -> str:
    return pickle.loads(result.read_bytes())[2] if result.exists() else ""


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@dataclass
class Score:
    tried: int = 0
    survived: int = 0

    def __str__(self) -> str:
        return f"{self.tried - self.survived} of {self.tried} killed"


def try_module(
    module: str, suite: Suite, reasons: dict[str, str], score: Score, *, verbose: bool
) -> set[str]:
    """Try each mutant of a module and print those that survive; return the keys of all."""
    begun_at = time.monotonic()
    made = list(mutants(module))
    chosen = [each for each in made if each.key not in reasons]
    print(
        f"\n{module}: {len(chosen)} mutants, {len(made) - len(chosen)} more are equivalent",
        flush=True,
    )
    for mutant, result, status in in_parallel(suite.tasks(chosen)):
        by = result.read_text()
        score.tried += 1
        if status:
            suite.killed(mutant, by)
        else:
            score.survived += 1
            print(mutant, flush=True)
        if verbose and status:
            print(f"    {mutant}    killed by {by}", flush=True)
        if score.tried % EVERY == 0:
            print(f"    … {score} so far, {time.monotonic() - begun_at:.0f} s here", flush=True)
    for each in made:
        if each.key in reasons:
            print(f"    {each}    {reasons[each.key]}")
    return {each.key for each in made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="name each mutant's killer")
    parser.add_argument("modules", nargs="*", help="default: all")
    options = parser.parse_args()
    begun_at = time.monotonic()
    if set(TESTS) != {path.stem for path in PACKAGE.glob("*.py")}:
        sys.exit("TESTS does not name the modules of the package")
    reasons = equivalents()
    score, keys = Score(), set[str]()
    chosen = options.modules or list(TESTS)
    warm_up()
    suite = Suite()
    if failed := suite.measure(chosen):
        print(f"without a mutation {failed} fails")
        return 1
    try:
        for module in chosen:
            keys |= try_module(module, suite, reasons, score, verbose=options.verbose)
    except KeyboardInterrupt:
        print("\nbroken off")
        return 1
    finally:
        share = 1 - score.survived / (score.tried or 1)
        print(
            f"\n{score.tried} mutants in {time.monotonic() - begun_at:.0f} s: {share:.1%} killed, "
            f"{score.survived} survived"
        )
    of_no_mutant = [each for each in reasons if each not in keys and each.split()[0] in chosen]
    for each in of_no_mutant:
        print(f"{EQUIVALENT.name} lists what is no mutant: {each}")
    return 0 if share >= LEAST and not of_no_mutant else 1


if __name__ == "__main__":
    sys.exit(main())
