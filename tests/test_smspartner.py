"""The provider call on a real wire: one answer whatever happens there, and in time."""

import base64
import gzip
import json
import re
import shutil
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import certifi
import pytest
import trustme

import rehash
from conftest import KEY, Context
from infra.local.provider_server import FAULTS, fault, serve
from infra.local.stack import ROOT
from sms_cancel import api, cancellation, deadline, smspartner, worker
from sms_cancel.telemetry import ConfigurationError

DEADLINE_S = 0.4
HAS_IPV6 = socket.has_dualstack_ipv6()
OPEN_FILES = Path("/dev/fd")
NOISE_S = 1.0  # for a busy machine; far from the minute that each endless fault would take


class Verdict(NamedTuple):
    outcome: str
    code: int | None
    http_status: int | None


def cancel(deadline_s=DEADLINE_S, message_id="300"):
    answer = smspartner.cancel(KEY, message_id, deadline_s)
    assert (answer.credits, answer.to_send) == (None, None)
    return Verdict(*answer[:3])


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
def test_after_a_fault_another_id_gets_its_own_answer(name, provider, provider_url):
    provider.plan(fault(name, **PARAMETERS.get(name, {})))
    cancel()
    assert cancel(5, "999") == ("not_found", 4, 200)


@pytest.mark.parametrize("name", FAULT_OUTCOMES)
def test_a_fault_has_its_outcome_within_the_deadline(name, provider, provider_url):
    outcome, code, is_cancelled = FAULT_OUTCOMES[name]
    provider.plan(fault(name, **PARAMETERS.get(name, {})))
    deadline_s = DEADLINE_S if outcome == "timed_out" else 5  # a busy machine needs some to read
    begun_at = time.monotonic()
    answer = cancel(deadline_s)
    assert time.monotonic() - begun_at < deadline_s + NOISE_S
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
    assert cancel(0.0) == ("unavailable", None, None)
    assert provider.calls.total() == 0


def test_a_deadline_that_is_over_on_a_kept_connection_sends_nothing(provider, provider_url):
    cancel(5)
    assert cancel(0.0, "301") == ("unavailable", None, None)
    assert provider.calls.total() == 1


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "::1").configure_cert(context)
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
    trust(certificate[0], monkeypatch)


def trust(path, monkeypatch):
    """Make the roots in a file or folder the only ones, as when an environment starts with them."""
    if Path(path).is_dir():
        monkeypatch.setattr(deadline, "CA_FOLDER", Path(path))
    else:
        monkeypatch.setattr(certifi, "where", lambda: path)
    monkeypatch.setattr(smspartner, "_adapter", deadline.Adapter(pool_maxsize=20))


def test_a_call_over_tls_succeeds(tls_url, trusted):
    assert cancel(5) == ("cancelled", 200, 200)


def test_the_build_puts_its_folder_of_root_certificates_where_it_is_looked_for():
    makefile = Path(rehash.__file__).with_name("Makefile")
    made = deadline.CA_FOLDER.relative_to(makefile.parent)
    assert f'"$(FOLDER)/{made}"' in makefile.read_text()


@pytest.mark.skipif(not shutil.which("openssl"), reason="the build makes the folder with openssl")
def test_the_build_s_folder_of_root_certificates_holds_the_same_roots(
    tls_url, provider, certificate, monkeypatch, tmp_path
):
    bundle = tmp_path / "bundle.pem"
    certifi_s = Path(certifi.where()).read_text()
    bundle.write_text(certifi_s + Path(certificate[0]).read_text())
    rehash.rehash(bundle, tmp_path / "with")
    assert len(list((tmp_path / "with").iterdir())) == certifi_s.count("BEGIN CERTIFICATE") + 1
    trust(tmp_path / "with", monkeypatch)
    assert cancel(5) == ("cancelled", 200, 200)
    rehash.rehash(Path(certifi.where()), tmp_path / "without")
    trust(tmp_path / "without", monkeypatch)
    assert cancel(5) == ("unavailable", None, None)
    assert provider.calls.total() == 1


def test_certificates_of_one_name_are_all_found(tmp_path):
    authority = trustme.CA().cert_pem.bytes()
    (tmp_path / "bundle.pem").write_bytes(authority + authority)
    rehash.rehash(tmp_path / "bundle.pem", tmp_path / "folder")
    assert [path.suffix for path in sorted((tmp_path / "folder").iterdir())] == [".0", ".1"]


def test_a_handshake_may_take_all_that_is_left_of_the_call(certificate, trusted, monkeypatch):
    body = b'{"success": true, "code": 200}'

    def serve_slowly():
        connection, _ = server.accept()
        connection.settimeout(10)
        time.sleep(2.1)  # an address has two seconds to be connected to
        with certificate[1].wrap_socket(connection, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        monkeypatch.setenv("SMSPARTNER_URL", f"https://localhost:{server.getsockname()[1]}/v1")
        server.settimeout(10)  # a client that does not come must fail the test, not hang it
        served = pool.submit(serve_slowly)
        assert cancel(6) == ("cancelled", 200, 200)
        served.result()


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


def test_a_call_that_gets_no_connection_leaves_the_kept_one_alone(
    provider, provider_url, monkeypatch
):
    assert cancel(5) == ("cancelled", 200, 200)
    with monkeypatch.context() as wrong:
        wrong.setenv("SMSPARTNER_URL", "https://127.0.0.1:99999/v1")  # no such port
        assert cancel(5) == ("unavailable", None, None)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a second connection"))
    assert cancel(5) == ("already_cancelled", 5, 200)


def test_a_connection_is_opened_before_without_the_environments_proxy(
    provider, provider_url, monkeypatch
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    smspartner.connect(5)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a second connection"))
    assert cancel(5) == ("cancelled", 200, 200)


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
    # One connection has two ends, both in this process, and the server's has a thread.
    assert threading.active_count() <= threads + 1
    assert len(list(OPEN_FILES.iterdir())) <= open_files + 2


def test_each_of_many_calls_ends_at_its_own_deadline(provider, provider_url):
    provider.plan(fault("silence", times=None))
    begun_at = time.monotonic()

    def ended_after_s(deadline_s):
        assert cancel(deadline_s).outcome == "timed_out"
        return time.monotonic() - begun_at

    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(ended_after_s, [0.9, 0.3, 0.6]))
    for at_s, deadline_s in zip(ended, [0.9, 0.3, 0.6], strict=True):
        assert deadline_s <= at_s < deadline_s + NOISE_S


@pytest.mark.parametrize("threads", [20, 30])  # as many as connections are kept, and more
def test_many_threads_get_each_its_own_answer(threads, provider, provider_url):
    for message_id in range(1000, 1200, 2):
        provider.schedule(message_id, 3600)
    with ThreadPoolExecutor(threads) as pool:
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
    assert smspartner.endpoint() == url


def test_the_provider_is_the_default(monkeypatch):
    monkeypatch.setenv("SMSPARTNER_URL", "")
    assert smspartner.endpoint() == "https://api.smspartner.fr/v1"


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


def test_only_xml_is_asked_for_by_name(monkeypatch):
    asked = []

    def refuse(request, **_):
        asked.append(request.url.partition("&messageId=")[2])
        raise OSError

    monkeypatch.setattr(smspartner._adapter, "send", refuse)
    for answer_format in ("", "json", "xml"):
        monkeypatch.setenv("SMSPARTNER_FORMAT", answer_format)
        cancel()
    assert asked == ["300", "300", "300&_format=xml"]


@pytest.fixture
def dead_address():
    """An address of this machine at which nobody takes a connection, and nobody refuses one."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as full:
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].settimeout(0)
            waiting[-1].connect_ex(full.getsockname())
        yield full.getsockname()
        for each in waiting:
            each.close()


linux = pytest.mark.skipif(sys.platform != "linux", reason="others refuse where Linux is silent")


def resolves_to(monkeypatch, *addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@linux
def test_two_dead_addresses_leave_time_for_one_that_answers(
    dead_address, provider, provider_url, monkeypatch
):
    port = int(provider_url.rpartition(":")[2].partition("/")[0])
    resolves_to(monkeypatch, dead_address, dead_address, ("127.0.0.1", port))
    begun_at = time.monotonic()
    assert cancel(0.9) == ("cancelled", 200, 200)
    assert time.monotonic() - begun_at >= 0.6


@linux
def test_any_number_of_dead_addresses_costs_no_more_than_the_deadline(
    dead_address, provider_url, monkeypatch
):
    resolves_to(monkeypatch, *[dead_address] * 20)
    begun_at = time.monotonic()
    assert cancel() == ("unavailable", None, None)
    assert DEADLINE_S <= time.monotonic() - begun_at < DEADLINE_S + NOISE_S


def test_an_address_of_a_network_that_this_machine_lacks_is_passed_over(
    provider, provider_url, monkeypatch
):
    port = int(provider_url.rpartition(":")[2].partition("/")[0])
    lacking = (socket.AF_APPLETALK, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    there = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [lacking, there])
    assert cancel(5) == ("cancelled", 200, 200)


def test_the_template_bounds_what_the_code_cannot_the_look_up_of_a_name():
    template = (ROOT / "template.yaml").read_text()
    [(timeout_s, attempts)] = re.findall(
        r"RES_OPTIONS: timeout:(\d+) attempts:(\d+)$", template, re.MULTILINE
    )
    assert int(timeout_s) * int(attempts) < cancellation.CALL_DEADLINE_S / 2


def test_a_look_up_that_outlasts_the_deadline_means_that_nothing_was_sent(
    provider, provider_url, monkeypatch
):
    look_up = socket.getaddrinfo

    def take_long(*arguments, **options):
        time.sleep(0.1)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", take_long)
    assert cancel(0.05) == ("unavailable", None, None)
    assert provider.calls.total() == 0


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
@pytest.mark.parametrize("tls", [False, True])
def test_an_address_of_ipv6_may_stand_in_the_url(tls, certificate, trusted, monkeypatch):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:

        def serve_one():
            plain = server.accept()[0]
            wrap = certificate[1].wrap_socket
            with wrap(plain, server_side=True) if tls else plain as connection:
                asked.append(connection.recv(65536))
                connection.sendall(response(5))

        asked = []
        thread = threading.Thread(target=serve_one)
        thread.start()
        url = f"{'https' if tls else 'http'}://[::1]:{server.getsockname()[1]}/v1"
        monkeypatch.setenv("SMSPARTNER_URL", url)
        assert cancel(5) == ("already_cancelled", 5, 200)
        thread.join()
    assert f"Host: [::1]:{url.rpartition(':')[2].partition('/')[0]}\r\n".encode() in asked[0]


def test_a_name_without_an_address_means_that_nothing_was_sent(provider_url, monkeypatch):
    resolves_to(monkeypatch)
    assert cancel() == ("unavailable", None, None)


SUCCESS = b'{"success": true, "code": 200}'


def answer(body, *headers):
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return fault("raw", data=base64.b64encode(b"\r\n".join([*head, b"", body])).decode())


@pytest.mark.parametrize(("more", "outcome"), [(0, "cancelled"), (1, "unreadable")])
def test_a_long_body_is_not_cut_to_one_that_can_be_read(more, outcome, provider, provider_url):
    provider.plan(answer(SUCCESS.ljust(16 * 1024) + b" " * more))
    assert cancel() == (outcome, 200 if more == 0 else None, 200)


def test_a_compressed_answer_that_nobody_asked_for_is_read(provider, provider_url):
    provider.plan(answer(gzip.compress(SUCCESS), b"Content-Encoding: gzip"))
    assert cancel() == ("cancelled", 200, 200)


def test_an_answer_of_two_lengths_is_unreadable(provider, provider_url):
    provider.plan(answer(SUCCESS, b"Content-Length: 5"))
    assert cancel(5) == ("unreadable", None, None)


def test_an_answer_that_only_claims_to_be_compressed_is_unreadable(provider, provider_url):
    provider.plan(answer(SUCCESS, b"Content-Encoding: gzip"))
    assert cancel() == ("unreadable", None, 200)


INTERIM = [b"100 Continue", b"101 Switching Protocols", b"102 Processing", b"103 Early Hints"]


def response(code, *, success=False, before=b""):
    body = json.dumps({"success": success, "code": code}).encode()
    return b"%sHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (before, len(body), body)


class ScriptedProvider:
    """Answers each request on the wire as scripted; ``connections`` has the ids asked for on each.

    A script has a list of parts for each id. They are sent one by one, each once the client has
    had the time to read the one before: it must not matter how they are cut.
    """

    def __init__(self, script, context=None):
        self.script, self.context = script, context
        self.connections = []
        self.server = socket.create_server(("localhost", 0))
        self.url = f"{'https' if context else 'http'}://localhost:{self.server.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain):
        asked = []
        self.connections.append(asked)
        with suppress(OSError):  # the client may hang up
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrap = self.context and self.context.wrap_socket
            with wrap(plain, server_side=True) if wrap else plain as connection:
                while request := connection.recv(65536):
                    asked.append(re.search(rb"messageId=([0-9]+)", request)[1].decode())
                    for part in self.script[asked[-1]]:
                        connection.sendall(part)
                        time.sleep(0.05)


@pytest.fixture(params=["plain", "tls"])
def scripted(request, monkeypatch):
    """Start a scripted provider, over plain HTTP and over TLS."""
    servers = []

    def start(script):
        context = None
        if request.param == "tls":
            path, context = request.getfixturevalue("certificate")
            trust(path, monkeypatch)
        servers.append(ScriptedProvider(script, context))
        monkeypatch.setenv("SMSPARTNER_URL", servers[-1].url)
        return servers[-1]

    yield start
    for each in servers:
        each.server.shutdown(socket.SHUT_RDWR)
        each.server.close()


@pytest.mark.parametrize("interim", INTERIM)
@pytest.mark.parametrize("times", [1, 3])
def test_no_cancel_gets_the_answer_to_another(interim, times, scripted):
    early = b"HTTP/1.1 %s\r\nLink: </x>\r\n\r\n" % interim
    scripted({"100": [early] * times + [response(200, success=True)], "999": [response(4)]})
    assert cancel(5, "100") == ("cancelled", 200, 200)
    assert cancel(5, "999") == ("not_found", 4, 200)


@pytest.mark.parametrize("door", ["http", "queue"])
def test_after_an_interim_answer_no_door_says_that_another_id_is_cancelled(door, scripted, cloud):
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    scripted({"100": [early, response(200, success=True)], "999": [response(4)]})

    def ask(message_id):
        if door == "http":
            event = {"routeKey": api.ROUTE, "pathParameters": {"messageId": message_id}}
            return json.loads(api.handler(event, Context())["body"])["outcome"]
        event = cloud.queue_event(json.dumps({"messageId": message_id}))
        assert worker.handler(event, Context()) == {"batchItemFailures": []}
        return [attributes["outcome"] for _, attributes in cloud.dead_letters()]

    assert ask("100") == ("cancelled" if door == "http" else [])
    assert ask("999") == ("not_found" if door == "http" else ["not_found"])


def test_an_interim_answer_in_the_same_packet_is_read_past_too(scripted):
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    scripted({"100": [response(6, before=early * 2)], "999": [response(4)]})
    assert [cancel(5, each).code for each in ("100", "999")] == [6, 4]


def test_interim_answers_without_end_are_read_until_the_deadline(scripted):
    scripted({"100": [b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 100})
    begun_at = time.monotonic()
    assert cancel(DEADLINE_S, "100") == ("timed_out", None, None)
    assert time.monotonic() - begun_at < DEADLINE_S + NOISE_S


NOT_UNDERSTOOD = {
    "html": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "no code": b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"success": true}',
    "contradiction": response(10, success=True),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "busy": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_a_connection_is_kept_only_after_an_answer_that_was_understood(name, scripted):
    # What follows the answer is what the next cancel would read on the same connection.
    server = scripted(
        {
            "100": [NOT_UNDERSTOOD[name]],
            "101": [response(5)],
            "102": [response(4)],
        }
    )
    assert cancel(5, "100").outcome in ("unreadable", "unavailable")
    assert [cancel(5, each).code for each in ("101", "102")] == [5, 4]
    assert server.connections == [["100"], ["101", "102"]]


def test_a_second_answer_behind_the_first_is_not_the_next_cancels(scripted):
    server = scripted({"100": [response(4) + response(200, success=True)], "101": [response(4)]})
    assert [cancel(5, each).outcome for each in ("100", "101")] == ["not_found", "not_found"]
    assert server.connections == [["100"], ["101"]]
