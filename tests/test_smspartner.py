"""The provider call on a real wire: one answer whatever happens there, and in time."""

import base64
import gzip
import json
import shutil
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import certifi
import pytest
import trustme

import rehash
from conftest import KEY
from infra.local.provider_server import FAULTS, fault, serve
from sms_cancel import deadline, smspartner
from sms_cancel.environment import ConfigurationError

DEADLINE_S = 0.4
OPEN_FILES = Path("/dev/fd")
NOISE_S = 1.0  # for a busy machine; far from the minute that each endless fault would take


def cancel(deadline_s=DEADLINE_S, message_id="300"):
    return smspartner.cancel(KEY, message_id, deadline_s)


def test_the_documented_request_is_made(provider, provider_url):
    assert cancel(5) == ("cancelled", 200, 200)
    assert provider.state(300) == "cancelled"


def test_xml_is_asked_for_and_read_where_it_is_configured(provider, provider_url, monkeypatch):
    monkeypatch.setenv("SMSPARTNER_FORMAT", "xml")
    assert [cancel(5), cancel(5)] == [("cancelled", 200, 200), ("already_cancelled", 5, 200)]


def test_a_refusal_with_status_400_is_read(provider, provider_url):
    provider.configure(refusal_status=400)
    assert cancel(5, "301") == ("not_found", 4, 400)


# What each fault of the simulated provider comes to. `True`: the SMS is cancelled all the same.
FAULT_OUTCOMES = {
    "raw": ("timed_out", None, False),  # closed without a byte
    "delay": ("timed_out", None, False),
    "silence": ("timed_out", None, False),
    "close": ("timed_out", None, False),
    "reset": ("timed_out", None, False),
    "truncated": ("timed_out", None, True),
    "drip_header": ("timed_out", None, True),
    "drip_body": ("timed_out", None, True),
    "endless_body": ("unreadable", None, False),
    "status": ("unavailable", None, False),
    "redirect": ("unreadable", None, False),
    "contradiction": ("unreadable", 10, False),
    "oversized": ("unreadable", None, False),
    "gzip_bomb": ("unreadable", None, False),
    "malformed_header": ("cancelled", 200, True),
    "many_headers": ("unreadable", None, True),
    "bom": ("cancelled", 200, True),
    "nul": ("unreadable", None, True),
    "garbage_status_line": ("unreadable", None, False),
    "garbage_body": ("unreadable", None, False),
    "html": ("unreadable", None, False),
    "empty": ("unreadable", None, False),
    "bad_location": ("unreadable", None, False),
    "deep_json": ("unreadable", None, False),
    "huge_number": ("unreadable", None, False),
    "wrong_types": ("unreadable", None, False),
    "doctype": ("unreadable", None, False),
}
PARAMETERS = {"delay": {"seconds": 5.0}, "endless_body": {"interval": 0.0}}


def test_every_fault_of_the_simulated_provider_is_tried():
    assert set(FAULT_OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize("name", FAULT_OUTCOMES)
def test_a_fault_has_its_outcome_within_the_deadline(name, provider, provider_url):
    outcome, code, is_cancelled = FAULT_OUTCOMES[name]
    provider.plan(fault(name, **PARAMETERS.get(name, {})))
    begun_at = time.monotonic()
    answer = cancel()
    assert time.monotonic() - begun_at < DEADLINE_S + NOISE_S
    assert (answer.outcome, answer.code) == (outcome, code)
    if answer.outcome.done:
        assert is_cancelled
    # Whatever was left on the wire, it is not read as the answer to the next call.
    assert cancel(2).outcome == ("already_cancelled" if is_cancelled else "cancelled")


@pytest.mark.parametrize("name", ["silence", "close", "reset", "html", "empty"])
def test_a_lost_answer_is_no_success_though_the_sms_is_cancelled(name, provider, provider_url):
    provider.plan(fault(name, moment="after"))
    assert not cancel().outcome.done
    assert provider.state(300) == "cancelled"


@pytest.mark.parametrize("body_s", [0.02, 0.1])
def test_a_slow_body_that_ends_in_time_is_read(body_s, provider, provider_url):
    provider.plan(fault("drip_body", interval=body_s / 70))
    assert cancel(3).outcome == "cancelled"


def test_nobody_there_means_that_nothing_was_sent(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SMSPARTNER_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        assert cancel() == ("unavailable", None, None)


def test_a_name_that_does_not_resolve_means_that_nothing_was_sent(monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("SMSPARTNER_URL", "https://provider.invalid/v1")
    assert cancel() == ("unavailable", None, None)


@contextmanager
def listener(answer=b""):
    """Accept one connection, read what comes, send an answer, and stay silent until the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def run():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                done.wait(10)

        thread = threading.Thread(target=run)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"\x16\x03\x03", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_handshake_that_does_not_end_means_that_nothing_was_sent(answer, monkeypatch):
    with listener(answer) as port:
        monkeypatch.setenv("SMSPARTNER_URL", f"https://127.0.0.1:{port}/v1")
        begun_at = time.monotonic()
        assert cancel() == ("unavailable", None, None)
        assert time.monotonic() - begun_at < DEADLINE_S + NOISE_S


def test_a_deadline_that_is_over_before_the_connection_sends_nothing(provider, provider_url):
    deadline = smspartner.Deadline(60)
    with deadline:
        deadline.expire()
        with pytest.raises(OSError):
            smspartner._adapter.send(smspartner.requests.Request("GET", provider_url).prepare())
    assert provider.calls.total() == 0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return str(path), context


@pytest.fixture
def tls_url(provider, certificate, monkeypatch):
    with serve(provider, ssl_context=certificate[1]) as numeric_url:
        url = numeric_url.replace("127.0.0.1", "localhost")
        monkeypatch.setenv("SMSPARTNER_URL", url)
        yield url


def test_an_authority_that_only_the_environment_trusts_is_refused(
    tls_url, provider, certificate, monkeypatch
):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, certificate[0])
    assert cancel(5) == ("unavailable", None, None)
    assert provider.calls.total() == 0


@pytest.fixture
def trusted(certificate, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", certificate[0])


def test_a_call_over_tls_succeeds(tls_url, trusted):
    assert cancel(5) == ("cancelled", 200, 200)


def test_the_build_puts_its_folder_of_root_certificates_where_it_is_looked_for():
    makefile = Path(rehash.__file__).with_name("Makefile")
    made = smspartner._CA_FOLDER.relative_to(makefile.parent)
    assert f'"$(ARTIFACTS_DIR)/{made}"' in makefile.read_text()


@pytest.mark.skipif(not shutil.which("openssl"), reason="the build makes the folder with openssl")
def test_the_build_s_folder_of_root_certificates_holds_the_same_roots(
    tls_url, provider, certificate, monkeypatch, tmp_path
):
    bundle = tmp_path / "bundle.pem"
    certifi_s = Path(certifi.where()).read_text()
    bundle.write_text(certifi_s + Path(certificate[0]).read_text())
    rehash.rehash(bundle, tmp_path / "with")
    assert len(list((tmp_path / "with").iterdir())) == certifi_s.count("BEGIN CERTIFICATE") + 1
    monkeypatch.setattr(smspartner, "_VERIFY", str(tmp_path / "with"))
    assert cancel(5) == ("cancelled", 200, 200)
    rehash.rehash(Path(certifi.where()), tmp_path / "without")
    monkeypatch.setattr(smspartner, "_VERIFY", str(tmp_path / "without"))
    smspartner._adapter.close()
    assert cancel(5) == ("unavailable", None, None)
    assert provider.calls.total() == 1


def test_certificates_of_one_name_are_all_found(tmp_path):
    authority = trustme.CA().cert_pem.bytes()
    (tmp_path / "bundle.pem").write_bytes(authority + authority)
    rehash.rehash(tmp_path / "bundle.pem", tmp_path / "folder")
    assert [path.suffix for path in sorted((tmp_path / "folder").iterdir())] == [".0", ".1"]


def test_a_connection_opened_before_carries_the_first_call(tls_url, trusted, provider, monkeypatch):
    smspartner.connect(5)
    assert provider.calls.total() == 0
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a second connection"))
    assert cancel(5) == ("cancelled", 200, 200)


@pytest.mark.parametrize(
    ("header", "last_words"), [(b"", b""), (b"", b"unasked"), (b"Connection: close\r\n", b"")]
)
def test_a_kept_connection_that_is_no_good_is_not_used(
    header, last_words, certificate, trusted, monkeypatch
):
    body = b'{"success": true, "code": 200}'
    answer = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (header, len(body), body)

    def serve_two():
        for _ in range(2):
            with certificate[1].wrap_socket(server.accept()[0], server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.sendall(last_words)
                said.set()

    said = threading.Event()
    with socket.create_server(("localhost", 0)) as server:
        threading.Thread(target=serve_two, daemon=True).start()
        monkeypatch.setenv("SMSPARTNER_URL", f"https://localhost:{server.getsockname()[1]}/v1")
        for _ in range(2):
            assert cancel(5) == ("cancelled", 200, 200)
            assert said.wait(5)
            time.sleep(0.1)  # for the bytes to arrive


@pytest.mark.parametrize("idle_s", [deadline.MAX_IDLE_S - 1, deadline.MAX_IDLE_S])
def test_a_connection_that_was_idle_for_long_is_not_used(idle_s, tls_url, trusted, monkeypatch):
    cancel(5)
    opened = []
    look_up = socket.getaddrinfo

    def count(*arguments, **options):
        opened.append(arguments)
        return look_up(*arguments, **options)

    monkeypatch.setattr("socket.getaddrinfo", count)
    later = time.time() + idle_s
    monkeypatch.setattr("time.time", lambda: later)
    assert cancel(5).outcome == "already_cancelled"
    assert len(opened) == (idle_s == deadline.MAX_IDLE_S)


def test_where_no_connection_can_be_opened_before_the_first_call_opens_its_own(
    provider, provider_url, monkeypatch
):
    monkeypatch.setenv("SMSPARTNER_URL", "https://127.0.0.1:9/v1")
    smspartner.connect(5)
    monkeypatch.setenv("SMSPARTNER_URL", provider_url)
    assert cancel(5) == ("cancelled", 200, 200)


@pytest.mark.parametrize("answer", [b"", b"\x16\x03\x03"])
def test_connecting_before_the_first_call_ends_at_its_deadline(answer, monkeypatch):
    with listener(answer) as port:
        monkeypatch.setenv("SMSPARTNER_URL", f"https://127.0.0.1:{port}/v1")
        begun_at = time.monotonic()
        smspartner.connect(DEADLINE_S)
        assert time.monotonic() - begun_at < DEADLINE_S + NOISE_S


@pytest.mark.parametrize("name", ["silence", "drip_header", "drip_body", "close", "reset"])
def test_a_call_over_tls_ends_at_its_deadline(name, tls_url, trusted, provider):
    cancel(5)  # the second call goes through the connection that this one leaves open
    provider.plan(fault(name))
    begun_at = time.monotonic()
    assert cancel().outcome == "timed_out"
    assert time.monotonic() - begun_at < DEADLINE_S + NOISE_S


def test_a_redirect_is_not_followed(provider, provider_url):
    provider.schedule(301, 3600)
    elsewhere = f"{provider_url}/message-cancel?messageId=301"
    provider.plan(fault("redirect", location=elsewhere))
    assert cancel(5) == ("unreadable", None, 302)
    assert provider.calls.total() == 1


def test_proxies_and_netrc_of_the_environment_are_ignored(
    provider, provider_url, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert cancel(5).outcome == "cancelled"


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list open files")
def test_connections_are_kept_and_none_is_left_over(provider, provider_url):
    open_files = len(list(OPEN_FILES.iterdir()))
    threads = threading.active_count()
    for message_id in range(1000, 1050):
        provider.schedule(message_id, 3600)
        assert cancel(5, str(message_id)).outcome == "cancelled"
    # One connection has two ends, both in this process; one thread ends all calls in time.
    give_up_at = time.monotonic() + 10
    while threading.active_count() > threads + 1 and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert threading.active_count() <= threads + 1
    assert len(list(OPEN_FILES.iterdir())) <= open_files + 2


@pytest.mark.parametrize("first_s", [0.6, 60])
def test_each_of_many_calls_ends_at_its_own_deadline(first_s, provider, provider_url):
    provider.plan(fault("silence", times=None))
    begun_at = time.monotonic()

    def ended_after_s(deadline_s):
        assert cancel(deadline_s).outcome == "timed_out"
        return time.monotonic() - begun_at

    with smspartner.Deadline(first_s), ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(ended_after_s, [0.9, 0.3, 0.6]))
    for at_s, deadline_s in zip(ended, [0.9, 0.3, 0.6], strict=True):
        assert deadline_s <= at_s < deadline_s + NOISE_S


def test_a_call_that_has_ended_does_not_expire(provider, provider_url):
    with smspartner.Deadline(0.05) as deadline:
        pass
    time.sleep(0.15)
    assert not deadline.expired


def test_twenty_threads_get_each_its_own_answer(provider, provider_url):
    for message_id in range(1000, 1200, 2):
        provider.schedule(message_id, 3600)
    with ThreadPoolExecutor(20) as pool:
        ids = range(1000, 1200)
        answers = list(pool.map(lambda each: cancel(5, str(each)).outcome, ids))
    assert answers == ["not_found" if each % 2 else "cancelled" for each in ids]


@pytest.mark.parametrize(
    "url",
    [
        "http://api.smspartner.fr/v1",
        "http://127.0.0.1.example.com/v1",
        "http://localhost@example.com/v1",
        "https://user:password@api.smspartner.fr/v1",
        "https://api.smspartner.fr/v1?x=1",
        "https://api.smspartner.fr/v1#x",
        "https://api.smspartner.fr/v1?",
        "https://api.smspartner.fr/v1#",
        "https://api.smspartner.fr:port/v1",
        "https://[::1/v1",
        "https://.example.com",
        "https:///v1",
        "ftp://api.smspartner.fr/v1",
        "ws://api.smspartner.fr/v1",
        "ftp://127.0.0.1/v1",
        "ws://127.0.0.1/v1",
        "file:///etc/passwd",
        "api.smspartner.fr",
        "x",
    ],
)
def test_an_unsafe_url_is_refused_by_the_name_of_its_variable(url, monkeypatch):
    monkeypatch.setenv("SMSPARTNER_URL", url)
    with pytest.raises(ConfigurationError, match="SMSPARTNER_URL must be an https URL") as caught:
        cancel()
    assert "smspartner.fr" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8/v1", "http://localhost/v1", "http://[::1]/v1"])
def test_plain_http_is_allowed_to_this_machine(url, monkeypatch):
    monkeypatch.setenv("SMSPARTNER_URL", url)
    assert smspartner.endpoint() == (url, "json")


def test_the_provider_is_the_default(monkeypatch):
    monkeypatch.setenv("SMSPARTNER_URL", "")
    monkeypatch.setenv("SMSPARTNER_FORMAT", "")
    assert smspartner.endpoint() == ("https://api.smspartner.fr/v1", "json")


def test_an_unknown_format_is_refused_by_the_name_of_its_variable(monkeypatch):
    monkeypatch.setenv("SMSPARTNER_FORMAT", "JSON")
    with pytest.raises(ConfigurationError, match="SMSPARTNER_FORMAT must be json or xml"):
        cancel()


def test_an_answer_that_echoes_the_key_is_not_relayed(provider, provider_url):
    body = json.dumps({"success": False, "code": 77, "message": KEY})
    provider.plan(fault("contradiction", body=body))
    assert cancel(5) == ("unreadable", 77, 200)


def test_a_header_line_that_is_none_does_not_spoil_the_answer(provider, provider_url):
    answer = b'HTTP/1.1 200 OK\r\nbroken header line\r\n\r\n{"success": true, "code": 200}'
    provider.plan(fault("raw", data=base64.b64encode(answer).decode()))
    assert cancel(5).outcome == "cancelled"


def test_a_body_whose_end_is_our_own_deadline_is_no_answer(monkeypatch):
    # Without a length, the end of the connection is the end of the body.
    with listener(b'HTTP/1.1 200 OK\r\n\r\n{"success": true, "code": 200}') as port:
        monkeypatch.setenv("SMSPARTNER_URL", f"http://127.0.0.1:{port}/v1")
        assert cancel() == ("timed_out", None, 200)


@pytest.mark.parametrize(("answer_format", "query"), [("json", ""), ("xml", "&_format=xml")])
def test_only_xml_is_asked_for_by_name_and_a_dead_address_costs_a_third(
    answer_format, query, monkeypatch
):
    asked = []

    def send(request, timeout, **_):
        asked.append((request.url, timeout))
        raise OSError

    monkeypatch.setattr(smspartner._adapter, "send", send)
    monkeypatch.setenv("SMSPARTNER_FORMAT", answer_format)
    cancel(3.0)
    [(url, timeout)] = asked
    assert url.endswith("&messageId=300" + query)
    assert timeout == (1.0, None)


def test_a_dead_address_costs_a_third_before_the_first_call_too(monkeypatch):
    times = []
    monkeypatch.setattr(smspartner._adapter, "connect", lambda *given: times.append(given[2]))
    smspartner.connect(3.0)
    assert times == [1.0]


SUCCESS = b'{"success": true, "code": 200}'


def answer(body, *headers):
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return fault("raw", data=base64.b64encode(b"\r\n".join([*head, b"", body])).decode())


@pytest.mark.parametrize(("more", "outcome"), [(0, "cancelled"), (1, "unreadable")])
def test_a_long_body_is_not_cut_to_one_that_can_be_read(more, outcome, provider, provider_url):
    provider.plan(answer(SUCCESS.ljust(16 * 1024) + b" " * more))
    assert cancel() == (outcome, 200 if more == 0 else None, 200)


def test_a_compressed_answer_is_unreadable(provider, provider_url):
    provider.plan(answer(gzip.compress(SUCCESS), b"Content-Encoding: gzip"))
    assert cancel() == ("unreadable", None, 200)
