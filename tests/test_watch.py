"""The watch door: what is found out about the account, written down and alerted."""

import gc
import importlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sms_cancel
from conftest import Context
from infra.local.provider_server import fault
from sms_cancel import aws, cancellation, watch
from sms_cancel.answer import interpret_account
from sms_cancel.outcome import Kind

CREDITS = {"creditSms": 269082, "creditSmsECO": 444570, "creditHlr": 2045023, "toSend": 3,
           "solde": "10225.119", "currency": "EUR", "balance": "10225.119"}  # fmt: skip
PUBLISHED = {
    "success": True,
    "code": 200,
    "user": {"username": "exemple@email.com", "firstname": "John", "lastname": "Doe"},
    "credits": CREDITS,
}


@pytest.fixture(autouse=True)
def _in_place(cloud, provider, provider_url):
    pass


def look(remaining_s=27.0):
    return watch.handler({}, Context(remaining_s))


def look_in_vain(remaining_s=27.0):
    """Look at an account whose state is not told; return why."""
    with pytest.raises(watch.AccountUnknown) as raised:
        look(remaining_s)
    return str(raised.value)


def answer(document, status=200, times=1):
    body = document if isinstance(document, str) else json.dumps(document)
    return fault("status", status=status, body=body, times=times, call="me")


def watched(written):
    [line] = written.logged("account watched")
    return line


def values(written):
    """Return each metric that has values, with its dimensions."""
    return {
        (name, *sorted(dimensions)): found
        for dimensions, metrics in written.metrics()
        for name, found in metrics.items()
    }


def test_an_account_that_can_cancel_is_told_by_its_numbers(provider, written):
    provider.configure(credits=321)
    provider.schedule(301, 3600)
    provider.schedule(302, -1)  # sent by now
    assert look() is None
    line = watched(written)
    assert (line["level"], line["outcome"], line["code"]) == ("INFO", "account_ready", 200)
    assert (line["door"], line["http_status"], line["attempts"]) == ("watch", 200, 1)
    assert line["duration_ms"] >= 0
    assert line["function_request_id"] == Context.aws_request_id
    found = values(written)
    assert found[("Credits", "service")] == [321]
    assert found[("ToSend", "service")] == [2]
    assert len(found[("ProviderLatency", "service")]) == 1
    assert found[("Attempts", "service")] == [1]
    assert set(found) == {
        (n, "service") for n in ("Credits", "ToSend", "ProviderLatency", "Attempts")
    }
    assert sum(provider.calls.values()) == 0  # no SMS was touched


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (200, 10, "api_key_rejected"),
        (400, 1, "api_key_rejected"),
        (200, 11, "credits_exhausted"),
        (200, 20, "account_blocked"),
        (200, 30, "account_blocked"),
        (200, 40, "account_blocked"),
        (403, 96, "account_blocked"),
    ],
)
def test_what_would_stop_every_cancel_is_alerted(status, code, outcome, provider, cloud, written):
    provider.plan(answer({"success": False, "code": code, "message": "x"}, status))
    look()
    line = watched(written)
    assert (line["level"], line["outcome"], line["code"]) == ("ERROR", outcome, code)
    [alert] = cloud.alerts()
    message = alert["message"]
    assert (message["outcome"], message["code"], message["door"]) == (outcome, code, "watch")
    assert (message["count"], message["messageIds"]) == (1, [])
    assert alert["attributes"] == {"outcome": outcome, "code": str(code)}
    assert values(written)[("Cancellations", "outcome", "service")] == [1]
    assert written.values("Credits") == []


@pytest.mark.parametrize("number", [0, -5, "0"])
def test_no_credits_are_credits_exhausted_and_their_number_is_told(
    number, provider, cloud, written
):
    provider.plan(answer(PUBLISHED | {"credits": CREDITS | {"creditSms": number}}))
    look()
    line = watched(written)
    assert (line["outcome"], line["level"], line["http_status"]) == (
        "credits_exhausted",
        "ERROR",
        200,
    )
    assert "code" not in line  # SMS Partner's was 200, which would contradict the outcome
    assert written.values("Credits") == [int(number)]
    assert written.values("ToSend") == [3]
    [alert] = cloud.alerts()
    assert (alert["message"]["outcome"], alert["message"]["code"]) == ("credits_exhausted", None)
    assert alert["attributes"] == {"outcome": "credits_exhausted"}


@pytest.mark.parametrize(
    ("planned", "outcome"),
    [
        (answer("", 429), "throttled"),
        (answer("", 503, times=3), "unavailable"),
        (fault("close", moment="after", times=3, call="me"), "timed_out"),
        (answer("<html>"), "unreadable"),
        (answer({"success": False, "code": 99}), "unreadable"),
    ],
)
def test_what_passes_is_written_down_and_not_alerted(planned, outcome, provider, cloud, written):
    provider.plan(planned)
    assert look_in_vain() == outcome  # Lambda counts it, and an alarm what lasts
    line = watched(written)
    assert (line["level"], line["outcome"]) == ("WARNING", outcome)
    assert written.values("Cancellations") == []  # no cancel failed
    assert cloud.alerts() == []


def test_a_secret_without_a_key_is_an_error_before_a_cancel_finds_it(cloud, provider, written):
    cloud.put_key(" ")
    look()
    assert (watched(written)["level"], watched(written)["outcome"]) == ("ERROR", "key_unavailable")
    assert written.values("Cancellations") == [1]  # for the alarm
    assert provider.account_calls == 0


def test_an_answer_lost_once_is_asked_for_again(provider, written):
    provider.plan(fault("close", moment="after", call="me"))
    look()
    assert (watched(written)["outcome"], watched(written)["attempts"]) == ("account_ready", 2)


def test_a_key_is_read_anew_at_each_run_as_a_new_environment_would(provider, cloud, written):
    look()
    provider.configure(api_key="Zq7Lk9Wd-new")
    cloud.put_key("Zq7Lk9Wd-new")
    look()
    cloud.put_key(" ")
    look()
    lines = written.logged("account watched")
    assert [each["outcome"] for each in lines] == ["account_ready"] * 2 + ["key_unavailable"]
    assert [each["attempts"] for each in lines] == [1, 1, 0]
    assert cloud.alerts() == []


def test_a_key_that_is_rotated_during_a_run_heals_without_an_alert(provider, cloud, written):
    provider.configure(api_key="Zq7Lk9Wd-new")
    reads = []

    def rotate(**_):
        reads.append(1)
        if len(reads) == 2:
            cloud.put_key("Zq7Lk9Wd-new")

    aws.client("secretsmanager").meta.events.register("before-call.*.GetSecretValue", rotate)
    look()
    assert (watched(written)["outcome"], watched(written)["attempts"]) == ("account_ready", 2)
    assert cloud.alerts() == []
    assert written.values("KeyRefetched") == [1]


def test_a_slow_peer_does_not_outlast_the_function(provider, written):
    provider.plan(fault("silence", times=3, call="me"))
    assert look_in_vain(watch.RESERVE_S + 0.3) == "timed_out"
    assert watched(written)["duration_ms"] < 4000


def test_time_is_left_for_what_follows_the_calls(monkeypatch):
    asked = []
    monkeypatch.setattr(
        cancellation, "watch", asked.append
    )  # returns nothing: a bug, not told here
    context = Context()
    context.get_remaining_time_in_millis = lambda: 27_000
    with monkeypatch.context() as stopped:
        stopped.setattr("time.monotonic", lambda: 100.0)
        watch.handler({}, context)
    assert asked == [100 + 27 - watch.RESERVE_S]


def test_the_event_is_not_written_down(written):
    watch.handler({"x": "whatever-it-says"}, Context())
    assert watched(written)["outcome"] == "account_ready"
    assert "whatever-it-says" not in written.text


def test_a_start_reads_no_key_which_would_cost_as_much_as_a_run(monkeypatch, provider):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    monkeypatch.setattr(aws, "call", lambda *_, **__: pytest.fail("a call to AWS"))
    importlib.reload(sms_cancel)
    assert not gc.isenabled()
    importlib.reload(watch)
    assert gc.isenabled()
    assert provider.account_calls == 0


def test_a_missing_variable_is_a_bug_that_names_it_and_never_raised(monkeypatch, written):
    monkeypatch.delenv("ALERT_TOPIC_ARN")
    assert look() is None
    [line] = written.logged("bug")
    assert line["error"] == "environment variable ALERT_TOPIC_ARN is not set"
    assert written.values("Bugs") == [1]


def test_json_is_asked_for_whatever_the_format_of_cancels(monkeypatch, written):
    monkeypatch.setenv("SMSPARTNER_FORMAT", "xml")
    look()
    assert watched(written)["outcome"] == "account_ready"


def read(document, status=200):
    return interpret_account(status, json.dumps(document).encode())


def test_the_published_answer_is_read():
    assert read(PUBLISHED) == ("account_ready", 200, 200, 269082, 3)


def test_other_fields_do_not_matter_and_digits_may_be_text():
    document = {"success": True, "code": 200, "credits": {"creditSms": "12", "toSend": 0, "x": [1]}}
    assert read(document | {"new": {"a": None}}) == ("account_ready", 200, 200, 12, 0)


def test_one_credit_is_enough():
    document = PUBLISHED | {"credits": CREDITS | {"creditSms": 1}}
    assert read(document).outcome == "account_ready"


@pytest.mark.parametrize("code", [4, 5, 6, 7])
def test_what_can_only_be_said_of_a_message_is_unreadable(code):
    assert read({"success": False, "code": code}) == ("unreadable", code, 200, None, None)


@pytest.mark.parametrize(
    "value", [None, True, 1.5, 1e3, "", "1.0", "1e3", [], {}, 10**12, "٣", "3\n"]
)
def test_credits_that_are_no_number_are_unreadable_and_a_wrong_to_send_is_left_out(value):
    assert read(PUBLISHED | {"credits": CREDITS | {"creditSms": value}}).outcome == "unreadable"
    answer = read(PUBLISHED | {"credits": CREDITS | {"toSend": value}})
    assert answer == ("account_ready", 200, 200, 269082, None)


@pytest.mark.parametrize("found", [None, [], "x", 3, {}, {"toSend": 3}])
def test_credits_of_another_shape_are_unreadable(found):
    assert read(PUBLISHED | {"credits": found}) == ("unreadable", 200, 200, None, None)


def test_success_without_credits_is_unreadable():
    assert read({"success": True, "code": 200}) == ("unreadable", 200, 200, None, None)
    xml = b"<result><entry>true</entry><entry>200</entry><entry>x</entry></result>"
    assert interpret_account(200, xml) == ("unreadable", 200, 200, None, None)


@given(st.integers(100, 599), st.binary(max_size=300) | st.just(json.dumps(PUBLISHED).encode()))
def test_whatever_comes_has_an_outcome_and_only_the_whole_is_ready(status, body):
    found = interpret_account(status, body)
    assert found.outcome.kind in (Kind.READY, Kind.BLOCKED, Kind.PASSING)
    assert (found.outcome == "account_ready") == (200 <= status < 300 and b"creditSms" in body)
