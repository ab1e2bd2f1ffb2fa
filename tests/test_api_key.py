import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from conftest import KEY
from sms_cancel import aws
from sms_cancel.api_key import ApiKey, Unusable, parse


@pytest.mark.parametrize(
    "secret",
    [
        "abc123",
        "  abc123\n",
        '{"apiKey": "abc123"}',
        '\n{"apiKey": " abc123 ", "note": "spare"}\n',
        "\ufeffabc123",
        " \ufeff abc123\ufeff\n",
        '\ufeff{"apiKey": "\ufeffabc123"}',
        '"abc123"',
        ' "abc123 "\n',
    ],
)
def test_a_secret_is_the_plain_key_or_json(secret):
    assert parse(secret) == "abc123"


EMPTY = "empty"
BINARY = "binary: store the key as text"
NO_TEXT = 'JSON without a text "apiKey"'
INSIDE = "white space or other characters inside the key"


@pytest.mark.parametrize(
    ("secret", "cause"),
    [
        (None, BINARY),
        ("", EMPTY),
        ("  \n", EMPTY),
        ("\ufeff", EMPTY),
        ('{"apiKey": ""}', EMPTY),
        ('""', EMPTY),
        ("abc 123", INSIDE),
        ("abc\t123", INSIDE),
        ("abc\u200b123", INSIDE),
        ("abc\ufeff123", INSIDE),
        ("abc\x00", INSIDE),
        ('{"apiKey": "abc 123"}', INSIDE),
        ('"abc 123"', INSIDE),
        ("{", NO_TEXT),
        ('"abc', NO_TEXT),
        ("[]", NO_TEXT),
        ('["abc123"]', NO_TEXT),
        ('{"apikey": "abc123"}', NO_TEXT),
        ('{"abc123": ""}', NO_TEXT),
        ('{"apiKey": null}', NO_TEXT),
        ('{"apiKey": 123}', NO_TEXT),
        ('{"apiKey": {"apiKey": "abc"}}', NO_TEXT),
        ('{"apiKey": "abc", "apiKey": "def"}', NO_TEXT),
        ("{" * 100_000, NO_TEXT),
        ("[" * 100_000, NO_TEXT),
    ],
)
def test_a_secret_of_another_form_holds_no_key_and_says_why(secret, cause):
    with pytest.raises(Unusable) as caught:
        parse(secret)
    assert str(caught.value) == cause


@given(st.text())
def test_parse_gives_a_visible_key_or_a_cause(secret):
    with suppress(Unusable):
        key = parse(secret)
        assert key.isprintable()
        assert key.isascii()
        assert " " not in key


def test_a_secret_of_another_region_is_read(cloud, monkeypatch):
    elsewhere = boto3.client("secretsmanager", region_name="eu-west-1")
    secret = elsewhere.create_secret(Name="elsewhere", SecretString="of-another-region")
    monkeypatch.setenv("API_KEY_SECRET_ARN", secret["ARN"])
    assert ApiKey().current() == "of-another-region"


@pytest.fixture
def fetches(cloud, monkeypatch):
    """Count the calls to Secrets Manager; ``fetches.failing`` makes them fail."""

    class Fetches:
        count = 0
        failing = False
        seconds = 0.0

    client = aws.client("secretsmanager")

    def count(**_):
        Fetches.count += 1
        time.sleep(Fetches.seconds)
        if Fetches.failing:
            raise EndpointConnectionError(endpoint_url="https://secretsmanager")

    client.meta.events.register("before-call.secrets-manager.GetSecretValue", count)
    return Fetches


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        """Lambda freezes the process between two calls: only the wall clock goes on."""

        now = 1_800_000_000.0

        def time(self):
            return self.now

        def monotonic(self):
            return 1000.0

    clock = Clock()
    monkeypatch.setattr("sms_cancel.api_key.time", clock)
    return clock


def test_the_key_is_fetched_once_in_five_minutes(fetches, clock):
    key = ApiKey()
    assert [key.current() for _ in range(3)] == [KEY] * 3
    assert fetches.count == 1
    clock.now += 299
    key.current()
    assert fetches.count == 1
    clock.now += 1
    key.current()
    assert fetches.count == 2


def test_a_new_value_is_in_force_after_five_minutes(cloud, fetches, clock):
    key = ApiKey()
    key.current()
    cloud.put_key("rotated")
    clock.now += 300
    assert key.current() == "rotated"


def test_the_last_key_stays_in_force_while_secrets_manager_is_down(fetches, clock, written):
    key = ApiKey()
    key.current()
    fetches.failing = True
    clock.now += 300
    assert [key.current(), key.current()] == [KEY, KEY]
    assert fetches.count == 2
    [line] = written.logged("secret not read")
    assert (line["level"], line["stale_key"]) == ("WARNING", True)
    fetches.failing = False
    clock.now += 10
    key.current()
    assert fetches.count == 3


def test_without_a_key_it_is_tried_again_after_ten_seconds(fetches, clock, written):
    key = ApiKey()
    fetches.failing = True
    assert [key.current(), key.current()] == [None, None]
    clock.now += 9
    assert key.current() is None
    assert fetches.count == 1
    assert written.logged("secret not read")[0]["reason"] == "EndpointConnectionError"
    fetches.failing = False
    clock.now += 1
    assert key.current() == KEY


def test_an_unusable_secret_is_no_key_and_is_looked_at_again_soon(cloud, fetches, clock, written):
    key = ApiKey()
    cloud.put_key("two words")
    assert key.current() is None
    [line] = written.logged("secret not usable")
    assert (line["level"], line["cause"]) == ("ERROR", INSIDE)
    cloud.put_key("mended")
    clock.now += 10
    assert key.current() == "mended"


def test_a_secret_that_becomes_unusable_puts_no_old_key_to_use(cloud, fetches, clock):
    key = ApiKey()
    assert key.current() == KEY
    cloud.put_key("two words")
    clock.now += 300
    assert key.current() is None


def test_a_secret_that_does_not_exist_is_no_key(cloud, monkeypatch, written):
    monkeypatch.setenv("API_KEY_SECRET_ARN", cloud.secret_arn + "x")
    assert ApiKey().current() is None
    assert written.logged("secret not read")[0]["reason"] == "ResourceNotFoundException"


def test_a_binary_secret_is_no_key(cloud):
    cloud.secrets.put_secret_value(SecretId=cloud.secret_arn, SecretBinary=b"abc123")
    assert ApiKey().current() is None


def test_a_rejected_key_is_replaced_past_the_cache(cloud, fetches):
    key = ApiKey()
    key.current()
    cloud.put_key("rotated")
    assert key.replacement(KEY) == "rotated"
    assert key.current() == "rotated"
    assert fetches.count == 2


def test_a_rejected_key_that_did_not_change_is_not_fetched_again_for_30_s(cloud, fetches, clock):
    key = ApiKey()
    key.current()
    assert [key.replacement(KEY), key.replacement(KEY)] == [None, None]
    assert fetches.count == 2
    clock.now += 29
    cloud.put_key("rotated")
    assert key.replacement(KEY) is None
    clock.now += 1
    assert key.replacement(KEY) == "rotated"
    assert fetches.count == 3


def test_twenty_threads_share_one_fetch_and_one_refetch(cloud, fetches):
    key = ApiKey()
    fetches.seconds = 0.05
    start = threading.Barrier(20)

    def use(_):
        start.wait()
        return key.current()

    def replace(_):
        start.wait()
        return key.replacement(KEY)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(use, range(20))) == {KEY}
        assert fetches.count == 1
        cloud.put_key("rotated")
        assert set(pool.map(replace, range(20))) == {"rotated"}
    assert fetches.count == 2


def test_a_refetch_that_fails_leaves_the_rejected_key(fetches):
    key = ApiKey()
    key.current()
    fetches.failing = True
    assert key.replacement(KEY) is None
    assert key.current() == KEY


@pytest.mark.parametrize("rotated", ["0", "~"])
def test_a_key_that_is_replaced_already_is_not_fetched_again(rotated, cloud, fetches, clock):
    key = ApiKey()
    key.current()
    cloud.put_key(rotated)  # one sorts before the old key, one after it
    assert key.replacement(KEY) == rotated
    clock.now += 30
    assert key.replacement(KEY) == rotated
    assert fetches.count == 2


def test_a_refetch_and_each_failed_read_that_leaves_a_stale_key_are_counted(
    cloud, fetches, clock, written
):
    key = ApiKey()
    key.current()
    key.replacement(KEY)
    assert (written.values("KeyRefetched"), written.values("StaleKeyUsed")) == ([1], [])
    fetches.failing = True
    clock.now += 300
    assert [key.current() for _ in range(10)] == [KEY] * 10
    assert written.values("StaleKeyUsed") == [1]
    fetches.failing = False
    clock.now += 10
    assert key.current() == KEY
    assert (written.values("KeyRefetched"), written.values("StaleKeyUsed")) == ([1], [1])


def test_without_any_key_no_stale_one_is_used(fetches, written):
    fetches.failing = True
    assert ApiKey().current() is None
    [line] = written.logged("secret not read")
    assert "_aws" not in line


def test_a_secret_repaired_while_lambda_freezes_the_process_is_seen_at_once(cloud, fetches, clock):
    key = ApiKey()
    cloud.put_key(" ")
    assert key.current() is None
    cloud.put_key("mended")
    clock.now += 120
    assert key.current() == "mended"


def test_a_rotation_while_lambda_freezes_the_process_is_seen_by_the_refetch(cloud, fetches, clock):
    key = ApiKey()
    key.current()
    assert key.replacement(KEY) is None
    cloud.put_key("rotated")
    clock.now += 120
    assert key.replacement(KEY) == "rotated"


def test_a_clock_that_is_set_back_prolongs_no_cache(cloud, fetches, clock):
    key = ApiKey()
    key.current()
    cloud.put_key("rotated")
    clock.now -= 3600
    assert key.current() == "rotated"


@pytest.mark.parametrize("secret", ["a secret of words", '{"Zq7Lk9Wd": "word"}', "word\u200bword"])
def test_nothing_of_an_unusable_secret_is_written_down(secret, cloud, written):
    cloud.put_key(secret)
    assert ApiKey().current() is None
    assert written.logged("secret not usable")
    assert not [each for each in ("Zq7", "word") if each in written.text]
