"""``make run``, as a newcomer types it."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from conftest import KEY, leaks
from infra.local import run as local_run
from infra.local import stack
from infra.local.bundle import Bundle

from .conftest import LOCAL_PYTHON, eventually

PATIENCE_S = 120


@pytest.fixture
def temporary(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(temporary):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    kept = {name: value for name, value in kept.items() if name not in {"ONCE", "PYTHONPATH"}}
    return kept | {"TMPDIR": str(temporary)}


@pytest.fixture
def project(tmp_path, artifacts):
    """A copy of what it takes, built, in a folder whose name has a space."""
    copy = tmp_path / "a project"
    for folder in ("functions", "infra"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(stack.ROOT / folder, copy / folder, ignore=ignored)
    shutil.copy(stack.ROOT / "template.yaml", copy)
    (copy / "build").mkdir()
    for built in (artifacts, *artifacts.parent.glob("libraries-*")):
        (copy / "build" / built.name).symlink_to(built)
    (copy / "build" / "function.ready").touch()
    return copy


def announced(project):
    return list((project / "build").glob("local-stack*"))


def run(environment, project=stack.ROOT, **more):
    return subprocess.run(
        [LOCAL_PYTHON, "-m", "infra.local.run"],
        cwd=project,
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_demonstration_shows_each_step_and_leaves_nothing(environment, project, temporary):
    ended = run(environment, project, ONCE="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    for shown in (
        "Building",
        "Deployed",
        "Scheduled",
        '"outcome": "cancelled"',
        "Cancelled by the queue",
        "Too late",
        "invalid_request",
        "Dead key",
        "code 10",
    ):
        assert shown in ended.stdout
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda functions: (functions / "sms_cancel" / "answer.py").touch(),
        lambda functions: (functions / "sms_cancel" / "new.py").touch(),
        lambda functions: (functions / "sms_cancel" / "watch.py").unlink(),
        lambda functions: (functions / "requirements.txt").touch(),
    ],
)
def test_the_build_is_kept_until_a_source_changes(project, change):
    functions, an_hour_ago = project / "functions", time.time() - 3600

    def is_kept():
        asked = ["make", "--question", "--silent", "-C", functions, "../build/function.ready"]
        return subprocess.run(asked, check=False).returncode == 0

    for each in (*functions.rglob("*"), project / "build" / "function.ready"):
        os.utime(each, (an_hour_ago, an_hour_ago))
    assert is_kept()
    change(functions)
    assert not is_kept()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("template.yaml", "!GetAtt Queue.Arn", "!GetAtt Queue.No", "The local stack failed: "),
        ("template.yaml", "CodeUri: functions/", "CodeUri: other/", "The local stack failed: "),
        ("functions/requirements.txt", "requests==", "requests===0", "The local stack failed: "),
        # It is what was built of the changed source that shows another outcome.
        ("functions/sms_cancel/answer.py", "6: Outcome.TOO_LATE", "6: Outcome.ALREADY_SENT",
         "The demonstration failed: "),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_and_is_exit_code_1(environment, project, file, old, new, message):
    changed = project / file
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    ended = run(environment, project, ONCE="1")
    assert ended.returncode == 1
    assert ended.stderr.startswith(message)


@contextmanager
def up(environment, project, last="what the simulated SMS Partner has", **more):
    """Start it; yield the process once it stays up, and what it has printed by then.

    ``last``: the title of its last command.
    """
    process = subprocess.Popen(
        [LOCAL_PYTHON, "-m", "infra.local.run"],
        cwd=project,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)  # a line that never comes fails the test
    watchdog.start()
    try:
        yield process, read_paragraph(process, last)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def read_paragraph(process, title):
    """Return what it prints, up to the end of the paragraph with this title."""
    printed = ""
    for line in process.stdout:
        printed += line
        if title in printed and not line.strip():
            return printed
    pytest.fail(f"it ended, having printed:\n{printed}{process.stderr.read()}")


def commands(printed):
    """Return the commands of the paragraphs that it has printed."""
    paragraphs = printed.partition("It stays up")[2].split("\n\n")
    return [each.partition("\n")[2] for each in paragraphs if each.startswith("  # ")]


def typed(command, environment, project):
    """Type a command that it has printed, elsewhere in the same project."""
    here = environment | {"PYTHONPATH": str(project / "infra")}
    return subprocess.run(
        command, shell=True, env=here, cwd=project, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_each_command_that_it_prints_works_and_ctrl_c_leaves_nothing(
    environment, project, temporary
):
    with up(environment, project) as (process, printed):
        ended = [typed(command, environment, project) for command in commands(printed)]
        assert [each.returncode for each in ended] == [0] * 7, [each.stderr for each in ended]
        assert "1 of 1 are cancelled" in ended[2].stderr
        assert all(each.stdout.endswith("\n") for each in ended if each != ended[2])
        messages = {each["id"]: each["state"] for each in json.loads(ended[-1].stdout)}
        assert (messages[310], messages[313]) == ("cancelled", "scheduled")
        for line in process.stdout:  # each is told of as it comes
            if "cancel settled" in line and "message_id=311" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (0, "")
    assert (announced(project), list(temporary.iterdir())) == ([], [])


def test_who_ends_it_is_left_with_nothing(environment, project, temporary):
    with up(environment, project) as (process, _):
        assert len(announced(project)) == 1
        assert list(temporary.iterdir()) != []
        process.terminate()
        process.wait(PATIENCE_S)
        assert (announced(project), list(temporary.iterdir())) == ([], [])


def test_local_means_one_that_runs_and_a_killed_one_leaves_nothing(environment, project, temporary):
    with up(environment, project) as (_, printed):
        of_the_first = list(temporary.iterdir())
        with up(environment, project) as (newer, _):
            assert len(announced(project)) == 2
            assert len(list(temporary.iterdir())) > len(of_the_first)
            newer.kill()
        assert eventually(lambda: list(temporary.iterdir()) == of_the_first)
        assert len(announced(project)) == 2
        [recall] = [each for each in commands(printed) if "--local" in each]
        assert "1 of 1 are cancelled" in typed(recall, environment, project).stderr
        with up(environment, project):
            assert len(announced(project)) == 2  # the killed one's is removed


def test_with_a_key_of_its_own_it_is_deployed_for_the_real_provider(environment):
    ended = run(environment, ONCE="1", SMSPARTNER_API_KEY=KEY)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Deployed" in ended.stdout
    assert "Scheduled" not in ended.stdout
    assert leaks(ended.stdout) == []


def test_with_a_key_it_says_that_the_provider_is_real(environment, project):
    real = {"last": "what could not be cancelled", "SMSPARTNER_API_KEY": KEY}
    with up(environment, project, **real) as (_, printed):
        begin, _, end = printed.partition("Deployed")
        assert "REAL SMS Partner" in begin
        assert "REAL SMS Partner" in end
        assert "Scheduled" not in printed
        assert leaks(printed) == []
        # Nothing to paste that cancels: the one command needs an id.
        assert not re.search("recall|SendMessage|messages/[0-9]", printed)
        assert "messages/MESSAGE_ID" in printed
        assert announced(project) == []  # so that no `recall --local` cancels a real SMS


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self):
        self.now = 0.0

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.now += seconds
        if self.now > 300:
            raise KeyboardInterrupt


def test_however_long_it_takes_to_read_the_log_no_cancel_is_left_out(monkeypatch, capsys):
    """As during a large recall: each look takes 7 s, and a line comes 30 s after its time."""
    clock = Clock()
    logged = {json.dumps({"message_id": str(second)}): second for second in range(200)}

    class Slow(Bundle):
        def __init__(self):
            """Do without a deployed one."""

        def log_lines(self, *, pattern, since):
            clock.sleep(7)
            return [line for line, second in logged.items() if since <= second <= clock.now - 30]

        def put_latencies(self, lines):
            pass

    monkeypatch.setattr(local_run, "time", clock)
    with pytest.raises(KeyboardInterrupt):
        local_run.follow(Slow(), set())
    printed = re.findall(r"message_id=(\d+)", capsys.readouterr().out)
    assert sorted(map(int, printed)) == list(range(200))
