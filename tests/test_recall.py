"""The command `recall` against a bulk door on loopback: what it says and sends, how it ends."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console

import bulk_door
from infra.operate import plan, progress, sending, stack
from infra.operate import recall as command

IDS = [str(number) for number in range(1, 12_346)]
ENDPOINT = "AWS_ENDPOINT_URL"


@pytest.fixture
def door(monkeypatch):
    with bulk_door.serve() as served:
        monkeypatch.setenv(ENDPOINT, served.url)
        yield served


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sending, "PAUSES_S", (0.01,) * 7)
    monkeypatch.setattr(command, "TERMINAL", tmp_path / "no terminal")
    monkeypatch.setattr(stack, "LOCAL", tmp_path / "local-stack.json")
    Path("ids.txt").write_text("\n".join(IDS))


@pytest.fixture
def recall(capsys):
    """Run the command; return its exit code and what it said."""

    def run(*options, file="ids.txt", place=("--stack", bulk_door.STACK)):
        ended = command.main([file, *place, *options])
        captured = capsys.readouterr()
        assert captured.out == ""
        return ended, captured.err

    return run


def recall_ids(door):
    return {each["recallId"] for each in door.requests}


def test_all_are_sent_a_thousand_at_a_time_under_one_recall(door, recall):
    ended, said = recall("--yes")
    assert ended == 0
    assert "12,345 SMS to cancel, from ids.txt" in said
    assert "12,345 of 12,345 are accepted\nTo see what becomes of each, run it again" in said
    assert sorted(door.taken, key=int) == IDS
    assert sorted(len(each["messageIds"]) for each in door.requests) == [345] + [1000] * 12
    assert len(recall_ids(door)) == 1
    assert {"sendAt" in each for each in door.requests} == {False}


def test_each_request_is_signed_json(door, recall):
    recall("--yes")
    for headers in door.headers:
        assert headers["Content-Type"] == "application/json"
        assert "/eu-west-3/execute-api/aws4_request" in headers["Authorization"]
        assert headers["X-Amz-Security-Token"] == "testing"


def test_several_requests_are_under_way_at_once(door, recall):
    meet = threading.Barrier(plan.AT_ONCE, timeout=60)

    def wait_for_the_others(_):
        meet.wait()
        return []

    door.script.extend([wait_for_the_others] * plan.AT_ONCE)
    assert recall("--yes")[0] == 0
    assert not meet.broken


def in_40_minutes():
    return (datetime.now(UTC) + timedelta(minutes=40, seconds=10)).isoformat()


def test_it_says_how_long_it_is_until_the_cut_off(door, recall):
    send_at = in_40_minutes()
    _, said = recall("--yes", "--send-at", send_at)
    assert "the cut-off is" in said
    assert ", in 35 min" in said
    assert {each["sendAt"] for each in door.requests} == {send_at}


def test_it_says_that_the_cut_off_is_past(door, recall):
    soon = datetime.now(UTC) + timedelta(minutes=3, seconds=10)
    ended, said = recall("--yes", "--send-at", soon.isoformat())
    assert "12,345 of 12,345 are PAST THEIR CUT-OFF, the first by 1 min " in said
    assert "they are tried last;\nSMS Partner will refuse them unless" in said
    assert {"sendAt" in each for each in door.requests} == {False}
    assert (ended, sorted(door.taken, key=int)) == (0, IDS)


def test_it_says_that_one_id_may_be_many_people(door, recall):
    assert "one id may stand for up to 500 recipients" in recall("--dry-run")[1]


def test_a_dry_run_sends_and_leaves_nothing(door, recall):
    ended, said = recall("--dry-run", "--wait")
    assert (ended, "Dry run: nothing was sent." in said) == (0, True)
    assert (door.requests, [path.name for path in Path().iterdir()]) == ([], ["ids.txt"])


@pytest.mark.parametrize(("answer", "sent"), [("y\n", True), ("YES\n", True), ("\n", False)])
def test_it_asks_first(door, recall, monkeypatch, answer, sent):
    Path("terminal").write_text(answer)
    monkeypatch.setattr(command, "TERMINAL", Path("terminal"))
    ended, said = recall()
    assert "Cancel them? [y/N]" in said
    assert (ended, bool(door.taken)) == ((0, True) if sent else (2, False))


def test_with_nobody_to_ask_it_needs_yes(door, recall):
    ended, said = recall()
    assert (ended, door.requests) == (2, [])
    assert "cannot ask for confirmation without a terminal; pass --yes" in said


def test_standard_input_will_do(door, recall, monkeypatch):
    read, write = os.pipe()
    os.write(write, b"300\n301\n")
    os.close(write)
    with os.fdopen(read) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        ended, said = recall("--yes", file="-")
    assert (ended, door.taken) == (0, ["300", "301"])
    assert "2 SMS to cancel, from standard input" in said


def test_one_wrong_line_and_nothing_is_sent(door, recall):
    Path("ids.txt").write_text("300\n307.0\n301\n")
    ended, said = recall("--yes")
    assert (ended, door.requests) == (2, [])
    assert said.startswith("recall: ids.txt: an id has 1 to 20 digits: correct these lines")
    assert "--column:\n  line 2: '307.0'" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--send-at", "2126-11-24T09:00"], "'2126-11-24T09:00' has no offset: write it like 20"),
        (["--send-at", "2126-11-24"], "'2126-11-24' has no time of day"),
        (["--send-at", "tomorrow"], "'tomorrow' is not a time like 20"),
        (["--send-at", "2126-11-24T09:00+1"], "is not a time like 20"),
        (["--send-at", "2126-11-24T09:00"], "or pass --timezone"),
        (["--send-at", "0001-01-01T00:00+00:00"], "is not a valid date and time"),
        (["--send-at", "0001-01-01T00:00+12:00"], "is not a valid date"),
        (["--send-at", "03/04/2126 09:00", "--timezone", "UTC"], "may be 2126-04-03 or 2126-03-04"),
        (["--send-at", "2126-11-24 09:00", "--timezone", "Paris"], "'Paris' is not a time zone"),
        (["--timezone", "Europe/Paris"], "need --send-at or --send-at-column"),
        (["--day-first"], "need --send-at or --send-at-column"),
        (["--send-at", "x", "--send-at-column", "y"], "not allowed with argument"),
        (["--json"], "--json needs --wait or --dry-run"),
        (["--send-at", "9999-12-31T23:59-12:00"], "is not a valid date"),
        (["--local"], "not allowed with argument"),
    ],
)
def test_wrong_usage_sends_nothing(door, recall, capsys, options, told):
    with pytest.raises(SystemExit) as ended:
        recall("--yes", *options)
    assert (ended.value.code, door.requests) == (2, [])
    assert told in capsys.readouterr().err


def test_a_campaign_that_has_left_is_refused(door, recall):
    ended, said = recall("--yes", "--send-at", "2026-01-01T09:00+01:00")
    assert (ended, door.requests) == (2, [])
    assert (
        "2026-01-01 09:00+01:00 is in the past: leave out --send-at to try to cancel them anyway"
        in said
    )


def test_a_local_time_has_the_offset_of_its_zone(door, recall):
    recall("--yes", "--send-at", "15/07/2126 09:00", "--timezone", "Europe/Paris")
    assert {each["sendAt"] for each in door.requests} == {"2126-07-15T09:00:00+02:00"}


def test_a_file_that_is_not_there_is_said(recall):
    ended, said = recall("--yes", file="nowhere.csv")
    assert (ended, "nowhere.csv" in said, len(said.splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("ValidationError", "Stack with id x does not exist", "does not exist"),
        ("ExpiredToken", "secret text", "wrong or have expired: log in, and run it again"),
        ("AccessDenied", "User: a is not authorized to perform: b", "is not authorized to"),
    ],
)
def test_what_keeps_it_from_the_stack_is_said_in_a_line(door, recall, code, message, advice):
    door.refusal = (code, message)
    ended, said = recall("--yes")
    assert (ended, door.requests, len(said.splitlines())) == (2, [], 1)
    assert advice in said


def test_without_credentials_it_says_where_they_come_from(door, recall, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    ended, said = recall("--yes")
    assert (ended, door.requests) == (2, [])
    assert "no AWS credentials: log in" in said


def test_without_a_region_it_says_so(door, recall, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    ended, said = recall("--yes")
    assert (ended, "set AWS_DEFAULT_REGION" in said) == (2, True)


def test_another_kind_of_stack_is_refused(door, recall):
    del door.outputs["WorkerLogGroupName"]
    ended, said = recall("--yes")
    assert (ended, door.requests) == (2, [])
    assert "has no output 'WorkerLogGroupName': it is not sms-cancel, or another version" in said


def test_without_a_local_stack_it_says_how_to_start_one(recall, door):
    ended, said = recall("--yes", place=["--local"])
    assert (ended, "start one with `make run`" in said) == (2, True)


def test_a_local_stack_that_was_killed_is_as_good_as_none(recall):
    place = dict.fromkeys(("stack", "region", "access_key", "secret_key", "api_url"), "x")
    dead = place | {"endpoint": "https://127.0.0.1:1", "ca_file": "/nowhere/ca.pem"}
    stack.LOCAL.write_text(json.dumps(dead))
    ended, said = recall("--yes", place=["--local"])
    assert (ended, "start one with `make run`" in said) == (2, True)


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"message": "Too Many Requests"}, {}),
        (503, {"detail": "The queue is away."}, {"Retry-After": "0"}),
        (503, "<html>", {"Retry-After": "soon"}),
        (500, {"message": "Internal Server Error"}, {}),
        (202, "not JSON", {}),
        (202, {"accepted": 12, "rejected": []}, {}),
        (202, {"accepted": 999, "rejected": [{"messageId": "x", "detail": "y"}]}, {}),
        (202, ["accepted"], {}),
        "drop",
        "lose",
        lambda ids: ids[5:7],
        lambda ids: ids,
    ],
)
def test_what_passes_is_tried_again_until_all_is_accepted(door, recall, trouble):
    door.script.extend([trouble] * 20)
    assert recall("--yes")[0] == 0
    assert sorted(set(door.taken), key=int) == IDS


def test_retry_after_is_heeded(door, recall):
    Path("ids.txt").write_text("300")
    door.script.append((503, {"detail": "x"}, {"Retry-After": "1"}))
    begun_at = time.monotonic()
    assert recall("--yes")[0] == 0
    assert time.monotonic() - begun_at >= 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, {"detail": "sendAt is wrong."}, {}), "400: sendAt is wrong."),
        ((401, {"message": "Unauthorized"}, {}), "The API takes JWTs"),
        ((403, {"message": "Forbidden"}, {}), "execute-api:Invoke on POST /cancellations"),
        ((404, {"message": "Not Found"}, {}), "Deploy this version"),
        ((200, "<html>", {}), "the API answered 200"),
        ((302, "", {"Location": "http://127.0.0.1:1/"}), "the API answered 302"),
    ],
)
def test_what_does_not_pass_ends_it_at_once_and_the_next_run_goes_on(door, recall, answer, said):
    door.script.extend([lambda _: [], lambda _: [], *[answer] * 50])
    ended, told = recall("--yes")
    assert (ended, said in told) == (3, True)
    failed, accepted = told.splitlines()[-2:]
    assert "recall: the API answered" in failed
    assert said in failed
    assert failed.endswith(command.AGAIN)
    assert accepted == "2,000 of 12,345 are accepted"
    assert len(door.requests) <= 2 + plan.AT_ONCE  # those under way, and no other
    door.script.clear()
    ended, told = recall("--yes")
    assert ended == 0
    assert sorted(set(door.taken), key=int) == IDS
    assert len(recall_ids(door)) == 1


def test_what_does_not_pass_for_a_minute_ends_it(door, recall):
    Path("ids.txt").write_text("300\n301")
    door.script.extend([lambda _: ["301"]] * 20)
    ended, said = recall("--yes")
    assert (ended, "The queue did not take it, even after 8 attempts" in said) == (3, True)
    assert door.taken == ["300"]
    assert [each["messageIds"] for each in door.requests[1:]] == [["301"]] * 7
    door.script.clear()
    assert recall("--yes")[0] == 0
    assert set(door.taken) == {"300", "301"}


def test_the_same_command_again_is_the_same_recall(door, recall):
    send_at = datetime.now(UTC) + timedelta(days=1)
    recall("--yes", "--send-at", send_at.isoformat())
    Path("ids.txt").write_text("\n".join(reversed(IDS)))  # the order may change
    elsewhere = send_at.astimezone(timezone(timedelta(hours=9)))
    recall("--yes", "--send-at", elsewhere.isoformat())
    assert len(recall_ids(door)) == 1
    assert len(door.taken) == 2 * len(IDS)


@pytest.mark.parametrize("change", ["ids", "time", "stack"])
def test_another_recall_has_another_id(door, recall, change):
    recall("--yes")
    if change == "ids":
        Path("ids.txt").write_text("300")
    if change == "stack":
        door.outputs["ApiUrl"] = door.url.replace("127.0.0.1", "localhost")
    options = ["--send-at", in_40_minutes()] if change == "time" else []
    assert recall("--yes", *options)[0] == 0
    assert len(recall_ids(door)) == 2


@pytest.mark.parametrize("change", ["ids", "time", "stack"])
def test_another_recall_needs_other_results(door, recall, change):
    header = "id,outcome,code,time,recall_id"
    written = f"{header}\n300,cancelled,200,2026-01-01,{'0' * 32}\n"
    Path("results.csv").write_text(written)
    options = ["--send-at", in_40_minutes()] if change == "time" else []
    ended, said = recall("--yes", "--wait", *options)
    assert (ended, door.requests) == (2, [])
    assert "choose another file with --results" in said
    assert Path("results.csv").read_text() == written


@pytest.mark.parametrize("file", ["ids.txt", "results.csv"])
@pytest.mark.parametrize("text", ["300", "id,outcome,code,time\n300,,,\n", ""])
def test_a_file_that_is_no_results_is_not_overwritten(door, recall, file, text):
    Path(file).write_text(text)
    Path("wanted.txt").write_text("300")
    ended, said = recall("--yes", "--wait", "--results", file, file="wanted.txt")
    assert (ended, door.requests, Path(file).read_text()) == (2, [], text)
    assert f"{file} already exists and was not written by recall" in said


def test_a_place_that_cannot_be_written_is_said_before_anything_is_sent(door, recall):
    ended, said = recall("--yes", "--wait", "--results", "nowhere/results.csv")
    assert (ended, door.requests, "nowhere" in said) == (2, [], True)


def test_a_bug_does_not_end_as_if_some_were_not_cancelled(recall, monkeypatch):
    monkeypatch.setattr(stack.Stack, "__init__", lambda *_: 1 // 0)
    ended, said = recall("--yes")
    assert (ended, said.startswith("recall: this is a bug in recall: nothing was sent.")) == (70, 1)
    assert "ZeroDivisionError" in said
    assert "accepted" not in said


def test_a_bug_after_the_first_request_does_not_say_that_nothing_was_sent(
    door, recall, monkeypatch
):
    monkeypatch.setattr(sending, "_left", lambda *_: 1 // 0)
    ended, said = recall("--yes")
    assert (ended, "this is a bug in recall" in said, door.taken != []) == (70, True, True)
    assert "nothing was sent" not in said
    assert command.AGAIN in said


def test_ctrl_c_at_the_question_sends_nothing(door, recall, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_confirm", interrupt)
    ended, said = recall()
    assert (ended, door.requests) == (130, [])
    assert said.endswith("recall: interrupted, and nothing was sent\n")


@pytest.mark.parametrize("data", [b"PK\x03\x04\x1b[31m\xff", b"\x00\x1b\xff", b"300\x1b]0;x\x07"])
def test_no_byte_of_a_binary_file_is_shown(door, recall, data):
    Path("ids.txt").write_bytes(data)
    ended, said = recall("--yes")
    assert (ended, door.requests) == (2, [])
    assert said.rstrip("\n").isprintable()
    assert said.isascii()


LINE = [Path(sys.executable).with_name("recall"), "ids.txt", "--stack", "x", "--yes"]


def hang(door, count):
    """Have the door take a number of requests, then take none until told to; return how."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(_):
        begun.release()
        go_on.wait(60)
        return []

    door.script.extend([*[lambda _: []] * count, *[wait] * 50])
    return begun, go_on


def read_until(process, text):
    """Return what the command says until it says the text, or ends."""
    said = ""
    while text not in said and (character := process.stderr.read(1)):
        said += character
    return said


def test_ctrl_c_answers_at_once_and_the_same_command_goes_on(door):
    """As a person does it: the real command, a real signal, requests under way."""
    begun, go_on = hang(door, 1)
    process = subprocess.Popen(LINE, stderr=subprocess.PIPE, text=True)
    for _ in range(plan.AT_ONCE):
        assert begun.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    said = read_until(process, "stopping, waiting for 8 requests")
    assert "stopping, waiting for 8 requests" in said  # while they still hang
    go_on.set()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "recall: interrupted. Run it again" in said
    assert f"\n{len(door.taken):,} of 12,345 are accepted\n" in said
    assert "Traceback" not in said
    assert len(door.taken) == 1000 * (1 + plan.AT_ONCE)
    door.script.clear()
    again = subprocess.run(LINE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (again.returncode, "Traceback" in again.stderr) == (0, False)
    assert set(door.taken) == set(IDS)
    assert len(recall_ids(door)) == 1


def test_one_request_is_one_request(door):
    Path("ids.txt").write_text("300")
    begun, go_on = hang(door, 0)
    process = subprocess.Popen(LINE, stderr=subprocess.PIPE, text=True)
    assert begun.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert "stopping, waiting for 1 request (" in read_until(process, "1 request (")
    go_on.set()
    process.communicate(timeout=120)
    assert process.returncode == 130


def test_ctrl_c_waits_for_a_request_that_was_just_begun(door, recall, monkeypatch):
    begun, go_on = hang(door, 0)

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments):
            super().submit(*arguments)
            assert begun.acquire(timeout=60)
            threading.Timer(0.5, go_on.set).start()
            raise KeyboardInterrupt

    monkeypatch.setattr(sending, "ThreadPoolExecutor", Interrupted)
    monkeypatch.setattr(sending.signal, "signal", lambda *_: None)  # this process keeps its own
    Path("ids.txt").write_text("300")
    ended, said = recall("--yes")
    assert (ended, door.taken) == (130, ["300"])
    assert "stopping, waiting for 1 request (" in said
    assert "1 of 1 are accepted" in said


def test_a_second_ctrl_c_waits_for_nothing(door):
    begun, go_on = hang(door, 0)
    process = subprocess.Popen(LINE, stderr=subprocess.PIPE, text=True)
    assert begun.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert "stopping" in read_until(process, "stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    go_on.set()


def test_a_long_note_does_not_take_the_place_of_the_numbers():
    bar, narrow = progress._bar(), Console(width=80, file=io.StringIO())
    bar.add_task("decided", total=20_000, completed=3_000, note="the note " * 20)
    narrow.print(bar.get_renderable())
    shown = narrow.file.getvalue()
    assert shown.startswith("decided ")
    assert " 3000/20000 " in shown
    assert shown.count("note") == 20


def test_ctrl_c_while_aws_is_asked_for_a_forecast_answers_at_once(door, monkeypatch):
    looking, go_on = threading.Event(), threading.Event()
    look = door.look
    monkeypatch.setattr(door, "look", lambda name: (looking.set(), go_on.wait(60), look(name))[2])
    process = subprocess.Popen(LINE, stderr=subprocess.PIPE, text=True)
    assert looking.wait(60)
    process.send_signal(signal.SIGINT)
    said = read_until(process, "recall: interrupted, and nothing was sent")
    assert "recall: interrupted, and nothing was sent" in said
    assert "assumed" not in said  # what it says where AWS does not answer in time
    go_on.set()
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert (process.returncode, door.requests) == (130, [])


def test_a_file_that_is_not_there_is_said_plainly(recall, door):
    Path("ids.txt").unlink()
    assert recall("--yes") == (2, "recall: ids.txt: No such file or directory\n")
    assert door.requests == []


def test_ctrl_c_while_it_follows_answers_at_once(door):
    looking, go_on = threading.Event(), threading.Event()
    door.looks.append(lambda: (looking.set(), go_on.wait(60)))
    process = subprocess.Popen([*LINE, "--wait"], stderr=subprocess.PIPE, text=True)
    assert looking.wait(60)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]  # while the log still does not answer
    assert (process.returncode, go_on.is_set()) == (130, False)
    assert f"recall: interrupted. {command.AGAIN}\n" in said
    assert "Traceback" not in said
    go_on.set()


def test_a_program_that_reads_no_further_is_no_failure(door):
    line = [*LINE, "--dry-run", "--json"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["id"] == "1"
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert "the reader of standard output has stopped" in said
    assert "Error" not in said


def test_aws_decides_what_time_it_is(door, recall):
    """This machine may be an hour slow."""
    send_at = in_40_minutes()
    door.ahead_s = 3600
    ended, said = recall("--yes", "--send-at", send_at)
    assert (ended, door.requests, "is in the past" in said) == (2, [], True)


def test_a_worker_that_is_stopped_is_said(door, recall):
    door.state = "Disabled"
    assert "the worker is STOPPED (infra/runbook.md, Stop everything)" in recall("--dry-run")[1]


def test_what_is_past_by_the_time_of_the_answer_is_said(door, recall, monkeypatch):
    """The question may stay unanswered for long."""
    send_at = in_40_minutes()

    def go_away():
        now = stack.Stack.now
        monkeypatch.setattr(stack.Stack, "now", lambda self: now(self) + timedelta(minutes=36))

    monkeypatch.setattr(command, "_confirm", go_away)
    ended, said = recall("--send-at", send_at)
    assert (ended, "12,345 of 12,345 are PAST THEIR CUT-OFF" in said) == (0, True)


@pytest.mark.parametrize(("away_s", "told"), [(50, 1), (70, 2)])
def test_after_a_long_question_the_forecast_is_told_again(door, recall, monkeypatch, away_s, told):
    door.latencies_ms = [5000]
    send_at = (datetime.now(UTC) + timedelta(minutes=9)).isoformat()  # it takes four minutes

    def go_away():
        now = stack.Stack.now
        monkeypatch.setattr(stack.Stack, "now", lambda self: now(self) + timedelta(seconds=away_s))

    monkeypatch.setattr(command, "_confirm", go_away)
    _, said = recall("--send-at", send_at)
    assert (said.count("forecast: about"), said.count(" will be too late. Now,")) == (told, told)


def test_standard_output_that_is_full_is_said(door):
    with Path("/dev/full").open("w") as full:
        line = [*LINE, "--dry-run", "--json"]
        ended = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr.endswith("recall: standard output: No space left on device\n")


def test_standard_output_that_is_closed_is_said_before_anything_is_sent(door):
    line = ["sh", "-c", '"$@" >&-', "sh", *LINE, "--wait", "--json"]
    ended = subprocess.run(line, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, door.requests) == (2, [])
    assert ended.stderr.startswith("recall: --json needs standard output, which is closed (")


def test_killed_at_any_moment_the_same_command_sends_all(door):
    for count in (0, 1, 2):
        begun, go_on = hang(door, count)
        process = subprocess.Popen(LINE, stderr=subprocess.DEVNULL)
        assert begun.acquire(timeout=60)
        process.kill()
        process.wait()
        door.script.clear()
        go_on.set()
    assert subprocess.run(LINE, stderr=subprocess.DEVNULL, timeout=120, check=False).returncode == 0
    assert set(door.taken) == set(IDS)
    assert len(recall_ids(door)) == 1


def test_a_stack_without_a_name_is_not_the_local_one(door, recall, monkeypatch):
    monkeypatch.setattr(stack, "_find_local", lambda: pytest.fail("the local stack"))
    assert recall("--yes", place=("--stack", ""))[0] == 2
    assert door.requests == []


@pytest.mark.parametrize("results", [".", "", "/"])
def test_a_folder_is_no_file_for_results(door, recall, results):
    ended, said = recall("--yes", "--wait", "--results", results)
    assert (ended, "is a folder" in said, door.requests) == (2, True, [])
