"""The search for the key would find it, in each form in which it could get out."""

import base64
import json
import logging

import pytest
import requests

from conftest import KEY, CurrentStdout, leaks
from infra.local.provider_server import fault
from sms_cancel import smspartner


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY}!",
        requests.Request("GET", "http://x/", params={"apiKey": KEY}).prepare().url,
        json.dumps({"apiKey": KEY}),
        json.dumps(json.dumps(f"x{KEY}")),
        base64.b64encode(KEY.encode()).decode(),
        f"key {KEY[:9]}…",
    ],
)
def test_the_search_finds_the_key(text):
    assert leaks(text)


def test_what_is_logged_is_searched(written):
    logging.getLogger("anything").debug("https://x/?apiKey=%s", KEY)
    assert leaks(written.text)
    written.forget()


@pytest.mark.parametrize("name", ["urllib3.connection", "requests", "botocore.parsers"])
def test_the_libraries_write_nothing_even_at_debug(name, written):
    library = logging.getLogger(name)
    level = library.level
    library.setLevel(logging.DEBUG)
    logging.getLogger().critical("this is written")
    library.critical("this is not: %s", KEY)
    library.setLevel(level)
    assert "this is written" in written.text
    assert "this is not" not in written.text


def test_without_the_guard_the_wire_would_leak(provider, provider_url, written):
    """urllib3 warns of an odd header line with the URL, on a successful answer."""
    library = logging.getLogger("urllib3")
    level = library.level
    library.setLevel(logging.WARNING)
    library.propagate = True
    provider.plan(fault("malformed_header"))
    try:
        assert smspartner.cancel(KEY, "300", 5).outcome == "cancelled"
    finally:
        library.setLevel(level)
        library.propagate = False
    assert leaks(written.text)
    written.forget()


@pytest.mark.parametrize("name", ["urllib3", "requests", "botocore"])
def test_a_handler_of_a_library_itself_gets_nothing_but_what_is_critical(name, written):
    library = logging.getLogger(name)
    handler = logging.StreamHandler(CurrentStdout())
    library.addHandler(handler)
    library.error("this is not written: %s", KEY)
    library.removeHandler(handler)
    assert written.text == ""
