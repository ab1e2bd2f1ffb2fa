"""How the tests are run: on one local stack, none lost, and never silent for long."""

import re
import signal
import threading
import time
from collections import Counter
from functools import cache

import pytest
from xdist.scheduler import LoadScopeScheduling

SILENCE_S = 20
# What takes longest comes first, so that no process is left alone with it at the end. What mostly
# waits comes before what computes.
LONGEST = ("deployed/", "test_try_account.py", "test_run.py", "test_pipeline.py",
           "test_hanging_aws.py", "test_smspartner.py", "test_build.py", "test_requirements.py",
           "test_recall.py", "test_worker.py")  # fmt: skip


class OneStack(LoadScopeScheduling):
    """Gives a file's tests to one process, and so all of a folder that shares a local stack."""

    def _split_scope(self, nodeid):
        path = nodeid.split("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder.endswith("/deployed") else path


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # by number of tests, which says nothing of their time
    return OneStack(config, log)


@cache
def is_of_what_ships(path):
    return re.search("^(from|import) sms_cancel", path.read_text(), re.MULTILINE) is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [each not in item.nodeid for each in LONGEST])
    for item in items:
        if not is_of_what_ships(item.path):
            item.add_marker("no_cover")  # measuring takes half as long again


class Suite:
    """Compares what was collected with what was reported, and names tests that take long."""

    def __init__(self, config):
        self._config = config
        self._collected = []
        self._reported = set()
        self._running = {}  # since when
        self._ended = threading.Event()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids):
        self._collected = ids

    def pytest_collection_finish(self, session):
        self._collected = [item.nodeid for item in session.items]

    def pytest_sessionstart(self):
        threading.Thread(target=self._speak, daemon=True).start()

    def pytest_runtest_logstart(self, nodeid):
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report):
        self._reported.add(report.nodeid)
        if report.when == "teardown":
            self._running.pop(report.nodeid, None)

    @property
    def _lost(self):
        twice = {each for each, count in Counter(self._collected).items() if count > 1}
        return sorted(twice | (set(self._collected) - self._reported))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        self._ended.set()
        if exitstatus == 0 and self._lost and not self._config.option.collectonly:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        if exitstatus == 0 and not self._config.option.collectonly:
            for each in self._lost:
                terminalreporter.write_line(f"LOST {each}: collected twice, or never reported")

    def _speak(self):
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        while not self._ended.wait(SILENCE_S):
            for test, since in list(self._running.items()):
                seconds = time.monotonic() - since
                if seconds > SILENCE_S:
                    terminal.write_line(f"\n… {test}: {seconds:.0f} s so far")


def pytest_configure(config):
    # A shell has what it runs in the background ignore Ctrl-C; what the tests start must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # in the process that reports
        config.pluginmanager.register(Suite(config))
