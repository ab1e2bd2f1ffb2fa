"""``make deploy`` says what is missing before it builds."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from moto import mock_aws

from infra import deploy

REFUSED = (
    b"<ErrorResponse><Error><Code>ExpiredToken</Code><Message>secret</Message></Error>"
    b"</ErrorResponse>"
)


@contextmanager
def refusing_sts():
    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(403)
            self.send_header("Content-Length", str(len(REFUSED)))
            self.end_headers()
            self.wfile.write(REFUSED)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def refusal(environment="default"):
    with pytest.raises(SystemExit) as ended:
        deploy.check(environment)
    return str(ended.value)


def test_an_unknown_environment_is_named_with_those_that_exist():
    assert "named prod: use one of default, production" in refusal("prod")


def test_without_a_region_it_says_how_to_set_one(monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "set AWS_REGION" in refusal()


def test_without_credentials_it_says_to_sign_in(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    assert "Unable to locate credentials. Sign in" in refusal()


def test_refused_credentials_are_told_from_missing_ones(monkeypatch):
    with refusing_sts() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        assert refusal() == "AWS refuses your credentials (ExpiredToken): sign in again"


@mock_aws
def test_where_all_is_there_it_says_where_it_deploys_to(monkeypatch, capsys):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    deploy.check("production")
    said = capsys.readouterr().out
    assert said == "Deploying production to account 123456789012, region eu-west-1\n"
