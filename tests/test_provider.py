"""The simulated SMS Partner: codes from state, bytes as published, faults as announced."""

import base64
import gzip
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.local.provider import Provider
from infra.local.provider_server import FAULTS, fault, serve

SAMPLES = Path(__file__).parent / "provider_samples"
KEY = "k3y-of-the-tests"
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z

CANCELLED_JSON = """{"success": true, "code": 200, "message": "L'envoi du SMS a été annulé."}"""
BAD_KEY_JSON = """{"success": false, "code": 10, "message": "Clé API incorrecte"}"""
CANCELLED_XML = """<?xml version='1.0' encoding='UTF-8'?>
<?xml version="1.0" encoding="UTF-8"?>
<result>
    <entry>true</entry>
    <entry>200</entry>
    <entry>
        <![CDATA[L'envoi du SMS a été annulé.]]>
    </entry>
</result>"""
BAD_KEY_XML = (
    "<result><entry>false</entry><entry>10</entry><entry>Clé API incorrecte</entry></result>"
)


@pytest.fixture
def provider():
    """A provider whose clock stands still, with message 300 due in an hour."""
    provider = Provider(KEY, clock=lambda: NOW)
    provider.schedule(300, 3600)
    return provider


@pytest.fixture
def url(provider):
    with serve(provider) as url:
        yield url


def request(url, method="GET", body=None, headers=None):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def cancel(url, message_id=300, key=KEY, more=""):
    return request(f"{url}/message-cancel?apiKey={key}&messageId={message_id}{more}")


def cancel_code(url, message_id=300):
    return json.loads(cancel(url, message_id)[2])["code"]


def connect(url, timeout=30.0):
    return socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout)


def exchange(url, data, timeout=30.0):
    """Send bytes and return every byte that comes back until the server closes."""
    with connect(url, timeout) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def raw_cancel(url, timeout=30.0):
    line = f"GET /v1/message-cancel?apiKey={KEY}&messageId=300 HTTP/1.1\r\n"
    return exchange(url, line.encode() + b"Host: x\r\nConnection: close\r\n\r\n", timeout)


# --- Codes, from state


@pytest.mark.parametrize(
    ("account", "key", "message_id", "code"),
    [
        ({}, None, "300", 1),
        ({}, "", "300", 1),
        ({}, "wrong", "300", 10),
        ({"status": "deactivated"}, KEY, "300", 20),
        ({"status": "blocked"}, KEY, "300", 30),
        ({"status": "denied"}, KEY, "300", 40),
        ({"status": "ip_refused"}, KEY, "300", 96),
        ({"credits": 0}, KEY, "300", 11),
        ({"credits": -3}, KEY, "300", 11),
        ({}, KEY, None, 3),
        ({}, KEY, "", 3),
        ({}, KEY, "301", 4),
        ({}, KEY, "abc", 4),
        ({}, KEY, "٣٠٠", 4),
        ({}, KEY, "300\n", 4),
        ({}, KEY, "9" * 5000, 4),
        ({}, KEY, "302", 5),
        ({}, KEY, "303", 6),
        ({}, KEY, "304", 7),
        ({}, KEY, "300", 200),
        # Several things wrong at once: the order in which they are looked at.
        ({"status": "blocked", "credits": 0}, None, None, 1),
        ({"status": "blocked", "credits": 0}, "wrong", None, 10),
        ({"status": "blocked", "credits": 0}, KEY, None, 30),
        ({"credits": 0}, KEY, None, 11),
    ],
)
def test_a_cancel_is_answered_from_state(provider, account, key, message_id, code):
    provider.schedule(302, 3600)
    provider.cancel(KEY, "302")
    provider.schedule(303, 200)
    provider.schedule(304, -1)
    provider.configure(**account)

    answer = provider.cancel(key, message_id)

    assert (answer["code"], answer["success"]) == (code, code == 200)
    assert answer["message"]
    assert provider.state(300) == ("cancelled" if code == 200 else "scheduled")


def me(url, key=KEY):
    return request(f"{url}/me?apiKey={key}")


def test_the_account_is_told_from_state_in_the_published_form(url, provider):
    provider.configure(credits=269_082)
    for message_id, due_in_s in ((301, 60), (302, 3600), (303, -1)):
        provider.schedule(message_id, due_in_s)
    provider.cancel(KEY, "302")  # of four, one is cancelled and one was sent
    status, content_type, body = me(url)
    answer = json.loads(body)
    assert (status, content_type) == (200, "application/json; charset=utf-8")
    assert {name: type(value) for name, value in answer.pop("credits").items()} == {
        "creditSms": int, "creditSmsECO": int, "creditHlr": int, "toSend": int,
        "solde": str, "currency": str, "balance": str,
    }  # fmt: skip
    assert (answer["success"], answer["code"]) == (True, 200)
    assert answer["user"].keys() == {"username", "firstname", "lastname"}
    assert provider.me(KEY)["credits"] == {
        "creditSms": 269_082, "creditSmsECO": 444_570, "creditHlr": 2_045_023, "toSend": 2,
        "solde": "10225.116", "currency": "EUR", "balance": "10225.116",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("account", "key", "code"),
    [
        ({}, None, 1),
        ({}, "wrong", 10),
        ({"status": "deactivated"}, KEY, 20),
        ({"status": "ip_refused"}, KEY, 96),
        ({"credits": 0}, KEY, 11),
        ({"status": "blocked", "credits": 0}, KEY, 30),
    ],
)
def test_the_account_is_refused_as_a_cancel_is(provider, account, key, code):
    provider.configure(**account)
    assert provider.me(key) == provider.cancel(key, "300")
    assert provider.me(key)["code"] == code


@pytest.mark.parametrize(
    ("left_s", "code"), [(300.5, 200), (300, 200), (299.99, 6), (0.01, 6), (0, 7), (-1, 7)]
)
def test_five_minutes_before_is_the_last_moment(provider, left_s, code):
    provider.schedule(300, left_s)
    assert provider.cancel(KEY, "300")["code"] == code


def test_a_cancelled_message_stays_cancelled_past_its_time(provider):
    provider.schedule(300, -1).cancelled = True
    assert provider.state(300) == "cancelled"
    assert provider.cancel(KEY, "300")["code"] == 5


def test_a_reset_provider_is_as_constructed(provider):
    provider.configure(api_key="another", credits=0)
    provider.plan(fault("close", times=None))
    provider.arrive(300)
    provider.arrive_at_me()
    provider.reset()
    assert (provider.messages(), provider.faults, provider.calls) == ([], [], Counter())
    assert provider.account_calls == 0
    assert provider.cancel(KEY, "300")["code"] == 4


def test_of_many_cancels_at_once_exactly_one_succeeds():
    def slow_clock():
        time.sleep(0.001)  # looked at between the check and the cancel: lets the others in
        return NOW

    provider = Provider(KEY, clock=slow_clock)
    with serve(provider) as url, ThreadPoolExecutor(16) as pool:
        for message_id in range(1000, 1010):
            provider.schedule(message_id, 3600)
            codes = Counter(pool.map(lambda _, i=message_id: cancel_code(url, i), range(16)))
            assert codes == {200: 1, 5: 15}


# --- Bytes


@pytest.mark.parametrize(
    ("key", "style", "content_type", "body"),
    [
        (KEY, "", "application/json; charset=utf-8", CANCELLED_JSON),
        (KEY, "&_format=json", "application/json; charset=utf-8", CANCELLED_JSON),
        (KEY, "&_format=XML", "text/xml; charset=utf-8", CANCELLED_XML),
        (KEY, "&_format=nonsense", "application/json; charset=utf-8", CANCELLED_JSON),
        ("wrong", "", "application/json; charset=utf-8", BAD_KEY_JSON),
        ("wrong", "&_format=xml", "text/xml; charset=utf-8", BAD_KEY_XML),
    ],
)
def test_the_bodies_are_the_published_bytes(url, key, style, content_type, body):
    assert cancel(url, key=key, more=style) == (200, content_type, body.encode())


def test_refusals_come_with_the_http_status_that_is_set_and_successes_with_200(url, provider):
    provider.configure(refusal_status=400)
    assert cancel(url, key="wrong")[0] == 400
    assert cancel(url)[0] == 200


def test_the_last_of_a_repeated_parameter_counts(url):
    status, _, body = cancel(url, message_id="1&messageId[]=2", more="&messageId=300")
    assert (status, body) == (200, CANCELLED_JSON.encode())


def test_a_connection_serves_one_request_after_another(url):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    codes = []
    for _ in range(3):
        path = f"/v1/message-cancel?apiKey={KEY}&messageId=300"
        connection.request("GET", path, body="a body that nobody reads")
        codes.append(json.loads(connection.getresponse().read())["code"])
        assert connection.sock is not None  # not closed by the server
    connection.close()
    assert codes == [200, 5, 5]


def test_a_closed_simulator_answers_no_connection_that_is_still_open(provider):
    with serve(provider) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

        def ask():
            connection.request("GET", "/nothing")
            return connection.getresponse().read()

        assert ask()
    with pytest.raises(ConnectionError):
        ask()
    connection.close()


def test_only_127_0_0_1_is_served(url):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", urlsplit(url).port), timeout=2)


def test_it_speaks_tls(provider, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    certificate, private = tmp_path / "certificate.pem", tmp_path / "private.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    options += " -addext subjectAltName=IP:127.0.0.1"
    files = ["-out", certificate, "-keyout", private]
    command = [openssl, "req", *options.split(), *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    trust = ssl.create_default_context(cafile=certificate)

    # A client that never begins its handshake keeps nobody else waiting.
    with serve(provider, ssl_context=context) as url, connect(url):
        assert url.startswith("https://127.0.0.1:")
        connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=30, context=trust)
        connection.request("GET", f"/v1/message-cancel?apiKey={KEY}&messageId=300")
        assert connection.getresponse().read() == CANCELLED_JSON.encode()
        provider.plan(fault("delay", seconds=0.05))
        connection.request("GET", f"/v1/message-cancel?apiKey={KEY}&messageId=300")
        assert json.loads(connection.getresponse().read())["code"] == 5
        connection.close()


# --- Bad input

CANCEL = f"GET /v1/message-cancel?apiKey={KEY}&messageId=300".encode()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /v1/nothing HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"GET //[ HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"POST" + CANCEL[3:] + b" HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"HEAD" + CANCEL[3:] + b" HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"NONSENSE" + CANCEL[3:] + b" HTTP/1.1\r\n\r\n", 400),
        (
            CANCEL.replace(b"&", b"&apiKey=&messageId=&=&&%&%ff=%zz&a[]=[") + b" HTTP/1.0\r\n\r\n",
            200,
        ),
        (CANCEL + b"\xff\xfe\x00 HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (CANCEL + b" " + KEY.encode() + b" HTTP/1.1\r\n\r\n", 400),
        (CANCEL + b" HTTP/7\r\n\r\n", 400),
        (CANCEL + b" HTTP/9.9\r\n\r\n", 400),
        (CANCEL + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (CANCEL + b" HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_bad_input_is_answered_without_a_5xx_and_without_the_key(url, data, status):
    received = exchange(url, data)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert KEY.encode() not in received


# --- Faults


@pytest.mark.parametrize(
    ("planned", "start", "inside"),
    [
        (fault("raw", data=base64.b64encode(b"\0\xffanything").decode()), b"\0\xff", b"anything"),
        (fault("garbage_status_line"), b"\x16\x03 no HTTP", b""),
        (fault("garbage_body"), b"HTTP/1.1 200 ", b"\xfd\xfe\xff"),
        (fault("html"), b"HTTP/1.1 200 ", b"<!DOCTYPE html>"),
        (fault("empty"), b"HTTP/1.1 200 ", b"Content-Length: 0\r\n\r\n"),
        (fault("status", status=429, headers={"Retry-After": "7"}), b"HTTP/1.1 429 ", b"ter: 7\r"),
        (fault("status", status=502, body="<h1>Bad</h1>"), b"HTTP/1.1 502 ", b"<h1>Bad</h1>"),
        (
            fault("status", status=599, content_type="x/y"),
            b"HTTP/1.1 599 ",
            b"Content-Type: x/y\r\n",
        ),
        (fault("redirect"), b"HTTP/1.1 302 ", b"Location: /\r\n"),
        (fault("redirect", status=307, location="http://a/b"), b"HTTP/1.1 307 ", b": http://a/b"),
        (fault("bad_location"), b"HTTP/1.1 302 ", b"Location: /\xff\xfe\xe9\r\n"),
        (fault("deep_json"), b"HTTP/1.1 200 ", b"[" * 16_384),
        (fault("huge_number"), b"HTTP/1.1 200 ", b"9" * 5000),
        (fault("contradiction"), b"HTTP/1.1 200 ", b'{"success": true, "code": 10}'),
        (fault("contradiction", body='{"success": false, "code": 200}'), b"HTTP/1.1 200 ", b"lse"),
        (fault("wrong_types"), b"HTTP/1.1 200 ", b'{"success": "true", "code": "200"}'),
        (fault("doctype"), b"HTTP/1.1 200 ", b"<!ENTITY code"),
        (fault("oversized"), b"HTTP/1.1 200 ", b"Content-Length: 1000000\r\n"),
        (fault("gzip_bomb"), b"HTTP/1.1 200 ", b"Content-Encoding: gzip\r\n"),
        (fault("close"), b"", b""),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_fault_answers_in_place_of_the_cancel(provider, url, planned, start, inside):
    provider.plan(planned)
    received = raw_cancel(url)
    assert received.startswith(start)
    assert inside in received
    assert bool(received) == bool(start)
    assert provider.state(300) == "scheduled"
    assert cancel_code(url) == 200  # once only


@pytest.mark.parametrize(
    ("planned", "inside"),
    [
        (fault("bom"), b"\r\n\r\n\xef\xbb\xbf" + CANCELLED_JSON.encode()),
        (fault("nul"), b"\r\n\r\n\0" + CANCELLED_JSON.encode() + b"\0"),
        (fault("malformed_header"), b"\r\na line without a colon\r\n\r\n{"),
        (fault("many_headers"), b"X-Line-199: 1\r\n"),
        (fault("truncated"), CANCELLED_JSON.encode()[:-10]),
        (fault("delay", seconds=0.01), CANCELLED_JSON.encode()),
        (fault("drip_header", interval=0.0), CANCELLED_JSON.encode()),
        (fault("drip_body", interval=0.0), CANCELLED_JSON.encode()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_fault_passes_the_genuine_answer_on(provider, url, planned, inside):
    provider.plan(planned)
    received = raw_cancel(url)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert inside in received
    assert provider.state(300) == "cancelled"


def test_every_fault_has_a_test():
    tested = set()
    for test in (
        test_a_fault_answers_in_place_of_the_cancel,
        test_a_fault_passes_the_genuine_answer_on,
    ):
        tested |= {row[0].name for row in test.pytestmark[0].args[1]}
    assert set(FAULTS) - tested == {"reset", "silence", "endless_body"}  # below


def test_a_truncated_answer_is_shorter_than_it_promises(provider, url):
    provider.plan(fault("truncated"))
    with pytest.raises(http.client.IncompleteRead):
        cancel(url)


def test_a_gzip_bomb_unpacks_to_megabytes(provider, url):
    provider.plan(fault("gzip_bomb", size=5_000_000))
    body = cancel(url)[2]
    assert len(body) < 20_000
    assert len(gzip.decompress(body)) == 5_000_000


@pytest.mark.parametrize(("moment", "state"), [("before", "scheduled"), ("after", "cancelled")])
def test_a_reset_loses_the_answer_before_or_after_the_cancel(provider, url, moment, state):
    provider.plan(fault("reset", moment=moment))
    with pytest.raises(ConnectionResetError):
        raw_cancel(url)
    assert provider.state(300) == state
    assert cancel_code(url) == (200 if state == "scheduled" else 5)


def test_silence_says_nothing(provider, url):
    provider.plan(fault("silence"))
    with pytest.raises(TimeoutError):
        raw_cancel(url, timeout=0.2)
    assert provider.state(300) == "scheduled"


def test_an_endless_body_goes_on(provider, url):
    provider.plan(fault("endless_body", interval=0.0))
    with connect(url) as connection:
        connection.sendall(CANCEL + b" HTTP/1.1\r\n\r\n")
        received = 0
        while received < 3_000_000:
            received += len(connection.recv(65536))


@pytest.mark.parametrize("name", ["silence", "endless_body", "drip_header", "delay"])
def test_no_fault_outlives_its_client(provider, url, name):
    threads = threading.active_count()
    parameters = {"delay": {"seconds": 60.0}, "drip_header": {"interval": 60.0}}.get(name, {})
    provider.plan(fault(name, **parameters))
    with connect(url) as connection:
        connection.sendall(CANCEL + b" HTTP/1.1\r\n\r\n")
        wait_until(lambda: provider.calls.total() == 1)
    wait_until(lambda: threading.active_count() <= threads)


def wait_until(condition):
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_faults_wait_in_line_and_count_down(provider, url):
    provider.plan(fault("status", status=500, times=2))
    provider.plan(fault("status", status=501, message_id=301))
    provider.plan(fault("status", status=503, times=None))
    ids = [300, 300, 300, 301, 301]
    assert [cancel(url, i)[0] for i in ids] == [500, 500, 503, 501, 503]


def test_a_fault_of_the_account_is_none_of_a_cancel(provider, url):
    provider.plan(fault("status", status=500, call="me"))
    provider.plan(fault("status", status=501))
    assert [cancel(url)[0], me(url)[0], cancel(url)[0], me(url)[0]] == [501, 500, 200, 200]
    assert (provider.calls.total(), provider.account_calls) == (2, 2)


def test_a_complete_answer_leaves_the_connection_open(provider, url):
    provider.plan(fault("status"))
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    for status in (503, 200):
        connection.request("GET", f"/v1/message-cancel?apiKey={KEY}&messageId=300")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert connection.sock is not None
    connection.close()


@pytest.mark.parametrize(("name", "parameters"), [("nonsense", {}), ("delay", {"second": 1})])
def test_a_fault_that_does_not_exist_is_refused_when_it_is_planned(name, parameters):
    with pytest.raises((ValueError, TypeError)):
        fault(name, **parameters)


# --- For people


def test_a_person_schedules_and_sees_messages(url, provider):
    shown = [
        {"id": 300, "state": "cancelled", "dueInS": 3600},
        {"id": 301, "state": "scheduled", "dueInS": 240},
    ]
    cancel(url, 300)
    base = url.removesuffix("/v1")
    for method, path in (("PUT", "/messages/301?dueInS=240"), ("GET", "/messages")):
        status, _, answer = request(base + path, method)
        assert (status, json.loads(answer)) == (200, shown)
    assert cancel_code(url, 301) == 6


@pytest.mark.parametrize(
    "path", ["301", "301?dueInS=", "301?dueInS=-1", "0?dueInS=1", "x?dueInS=1"]
)
def test_a_person_is_told_of_what_cannot_be_scheduled(url, provider, path):
    status, _, _ = request(f"{url.removesuffix('/v1')}/messages/{path}", "PUT")
    assert status in {400, 404}
    assert [each.id for each in provider.messages()] == [300]


# --- The calls of the provider's page


@pytest.mark.parametrize(
    ("command", "sample"),
    [
        (["sh"], "cancel_curl.sh"),
        ([sys.executable], "cancel_requests.py"),
        ([sys.executable], "cancel_http_client.py"),
        (["node"], "cancel_node.js"),
        (["php"], "cancel_php.php"),
        (["java"], "Cancel.java"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_samples_of_the_page_read_the_published_bytes(url, command, sample):
    for program in [command[0], *(["curl"] if sample == "cancel_curl.sh" else [])]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for key, expected in ((KEY, CANCELLED_JSON), ("wrong", BAD_KEY_JSON)):
        done = subprocess.run(
            [*command, SAMPLES / sample, url, key, "300"],
            check=False,
            capture_output=True,
            timeout=30,
        )
        assert done.stdout.decode() == expected, done.stderr.decode()
