"""What each answer of SMS Partner means. The bodies are recorded or published ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_cancel import answer
from sms_cancel.outcome import Outcome
from test_smspartner import Verdict

PUBLISHED_SUCCESS = (
    '{"success": true, "code": 200, "message": "L\'envoi du SMS a été annulé."}'.encode()
)
PUBLISHED_REFUSAL = '{"success": false, "code": 10, "message": "Clé API incorrecte"}'.encode()
PUBLISHED_XML_SUCCESS = """<?xml version='1.0' encoding='UTF-8'?>
<?xml version="1.0" encoding="UTF-8"?>
<result>
    <entry>true</entry>
    <entry>200</entry>
    <entry>
        <![CDATA[L'envoi du SMS a été annulé.]]>
    </entry>
</result>
""".encode()
PUBLISHED_XML_REFUSAL = (
    "<result><entry>false</entry><entry>10</entry><entry>Clé API incorrecte</entry></result>"
).encode()


def interpret(status: int, body: bytes) -> Verdict:
    return Verdict(*answer.interpret(status, body)[:3])


def refusal(code) -> bytes:
    return json.dumps({"success": False, "code": code, "message": "x"}).encode()


def xml(success: str, code: str) -> bytes:
    return (
        f"<result><entry>{success}</entry><entry>{code}</entry><entry>x</entry></result>".encode()
    )


def test_the_published_answers_are_read():
    assert interpret(200, PUBLISHED_SUCCESS) == ("cancelled", 200, 200)
    assert interpret(200, PUBLISHED_REFUSAL) == ("api_key_rejected", 10, 200)
    assert interpret(200, PUBLISHED_XML_SUCCESS) == ("cancelled", 200, 200)
    assert interpret(200, PUBLISHED_XML_REFUSAL) == ("api_key_rejected", 10, 200)


REFUSALS = [
    (1, "api_key_rejected"),
    (2, "unreadable"),
    (3, "unreadable"),
    (4, "not_found"),
    (5, "already_cancelled"),
    (6, "too_late"),
    (7, "already_sent"),
    (8, "unreadable"),
    (9, "unreadable"),
    (10, "api_key_rejected"),
    (11, "credits_exhausted"),
    (20, "account_blocked"),
    (30, "account_blocked"),
    (40, "account_blocked"),
    (96, "account_blocked"),
    (99, "unreadable"),
    (429, "throttled"),
    (0, "unreadable"),
    (-1, "unreadable"),
]


@pytest.mark.parametrize(("code", "outcome"), REFUSALS)
@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 500, 503])
def test_a_refusal_is_read_by_its_code_whatever_the_status(status, code, outcome):
    assert interpret(status, refusal(code)) == (outcome, code, status)


@pytest.mark.parametrize("status", [300, 301, 399])
def test_a_redirect_is_unreadable_whatever_it_says(status):
    assert interpret(status, refusal(5)) == ("unreadable", 5, status)
    assert interpret(status, PUBLISHED_SUCCESS) == ("unreadable", 200, status)


def test_a_code_of_nine_digits_is_one():
    assert interpret(200, refusal(999_999_999)) == ("unreadable", 999_999_999, 200)
    assert interpret(200, refusal(-999_999_999)) == ("unreadable", -999_999_999, 200)


def test_in_xml_only_the_first_two_entries_are_looked_at():
    body = b"<result><entry>true</entry><entry>200</entry><message><b>x</b></message></result>"
    assert interpret(200, body) == ("cancelled", 200, 200)


@pytest.mark.parametrize(("code", "outcome"), [row for row in REFUSALS if row[0] >= 0])
def test_an_xml_refusal_is_read_by_its_code(code, outcome):
    assert interpret(400, xml("false", str(code))) == (outcome, code, 400)


def test_a_refusal_may_have_its_code_as_a_string_of_digits():
    assert interpret(200, b'{"success": false, "code": "5"}') == ("already_cancelled", 5, 200)
    assert interpret(400, b'{"success": false, "code": "77"}') == ("unreadable", 77, 400)


def test_a_success_with_empty_errors_is_one():
    body = b'{"success": true, "code": 200, "error": null, "errors": []}'
    assert interpret(200, body) == ("cancelled", 200, 200)


def test_a_refusal_may_bring_errors_instead_of_a_message():
    body = b'{"success": false, "code": 4, "errors": [{"elementId": "x", "message": "y"}]}'
    assert interpret(400, body).outcome == "not_found"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "cancelled"),
        (202, "cancelled"),
        (299, "cancelled"),
        (100, "unreadable"),
        (199, "unreadable"),
        (301, "unreadable"),
        (302, "unreadable"),
        (400, "unreadable"),
        (401, "unreadable"),
        (403, "unreadable"),
        (429, "throttled"),
        (499, "unreadable"),
        (500, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_success_counts_only_with_a_status_of_success(status, outcome):
    assert interpret(status, PUBLISHED_SUCCESS).outcome == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "unreadable"),
        (204, "unreadable"),
        (301, "unreadable"),
        (400, "unreadable"),
        (401, "unreadable"),
        (403, "account_blocked"),
        (404, "unreadable"),
        (408, "unreadable"),
        (429, "throttled"),
        (499, "unreadable"),
        (500, "unavailable"),
        (502, "unavailable"),
        (503, "unavailable"),
        (599, "unavailable"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sorry</html>",
        b"\xff\xfe",
        b"null",
        b"[1, 2]",
        b'{"message": "Forbidden"}',
        b"Access denied",
        b"<html>" + b" " * 20_000,
    ],
)
def test_without_a_readable_body_the_status_decides(status, body, outcome):
    assert interpret(status, body) == (outcome, None, status)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        b"\xef\xbb\xbf",
        b'{"success": false}',
        b'{"success": false, "message": "non"}',
        b'{"success": false, "code": null, "errors": ["non"]}',
        b'{"code": "E401"}',
    ],
)
def test_without_a_code_an_empty_or_own_body_means_the_key(status, body):
    assert interpret(status, body) == ("api_key_rejected", None, status)


@pytest.mark.parametrize(
    "body",
    [
        b'{"success": true, "code": 10}',
        b'{"success": true, "code": 5}',
        b'{"success": true, "code": 199}',
        b'{"success": true, "code": 201}',
        b'{"success": false, "code": 200}',
        b'{"success": true, "code": 200, "error": "x"}',
        b'{"success": true, "code": 200, "error": {"code": 10}}',
        b'{"success": true, "code": 200, "errors": ["x"]}',
    ],
)
def test_success_and_code_that_contradict_each_other_are_unreadable(body):
    verdict = interpret(200, body)
    assert (verdict.outcome, verdict.code) == ("unreadable", json.loads(body)["code"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"success": "true", "code": 200}',
        b'{"success": 1, "code": 200}',
        b'{"success": null, "code": 200}',
        b'{"success": true, "code": "200"}',
        b'{"success": true, "code": 200.0}',
        b'{"success": true, "code": true}',
        b'{"success": true, "code": null}',
        b'{"success": true}',
        b'{"code": 200}',
        b'{"success": true, "code": 200',
        b'{"success": false, "code": 10, "success": true, "code": 200}',
        b'{"success": true, "code": 200, "code": 200}',
        b'{"success": true, "code": 200, "more": {"x": 1, "x": 1}}',
        b'{"success": false, "code": "1000000000"}',
        b'{"success": false, "code": "-1"}',
        b'{"success": false, "code": " 5"}',
        b'{"success": false, "code": ""}',
        b'{"success": false, "code": 5.0}',
        b'{"success": false, "code": true}',
        b'{"Success": true, "Code": 200}',
        b'"success"',
        b"true",
        b"{}",
        b" ",
        b"[" * 16_000,
        b'{"success": false, "code": ' + b"9" * 5000 + b"}",
        b'{"success": false, "code": 1000000000}',
        b'{"success": false, "code": NaN}',
        b"\xef\xbb\xbf",
        '{"success": true, "code": 200}'.encode("utf-16"),
    ],
)
def test_what_is_not_the_documented_json_is_unreadable(body):
    assert interpret(200, body) == ("unreadable", None, 200)


@pytest.mark.parametrize(
    "body",
    [
        xml("True", "200"),
        xml("1", "200"),
        xml("t rue", "200"),
        xml("true", "2 00"),
        xml("true", "200.0"),
        xml("true", "+200"),
        xml("true", "-200"),
        xml("true", ""),
        xml("", "200"),
        xml("true", "٢٠٠"),
        xml("true", "9" * 5000),
        xml("false", "\u0665"),
        b"<result><entry>true</entry><entry>200</entry><entry>x</entry><entry>x</entry></result>",
        b"<result><entry>true</entry><entry>200</entry></result><result></result>",
        b"<result><entry>true</entry><entry>200</entry><result></result></result>",
        b"<result><entry>true</entry><entry>200</entry>" + b" " * 16_000,
        b"<?xml version='1.0'?>" * 700,
        b"<result></result>",
        b"<result><entry>true</entry></result>",
        b"<result><success>true</success><code>200</code></result>",
        b"<result><entry><b>true</b></entry><entry>200</entry></result>",
        b"<answer><entry>true</entry><entry>200</entry></answer>",
        b"< result><entry>true</entry><entry>200</entry></result>",
        b"<result><entry>true</entry><code>200</code></result>",
        b"<results><entry>true</entry><entry>200</entry></results>",
        b"<result><aentry>true</aentry><aentry>200</aentry></result>",
        b"<result><zentry>true</zentry><zentry>200</zentry></result>",
        b"<result><entry>true</entry><entry>200</entry>",
        b"<?xml version='1.0'?>",
        b"<!DOCTYPE result><result><entry>true</entry><entry>200</entry></result>",
        b'<!DOCTYPE r [<!ENTITY t "true">]><result><entry>&t;</entry><entry>200</entry></result>',
        b"<a>" * 5000,
    ],
)
def test_what_is_not_the_documented_xml_is_unreadable(body):
    assert interpret(200, body) == ("unreadable", None, 200)


def test_a_byte_order_mark_is_no_obstacle():
    assert interpret(200, b"\xef\xbb\xbf" + PUBLISHED_SUCCESS).outcome == "cancelled"
    assert interpret(200, b"\xef\xbb\xbf" + PUBLISHED_XML_SUCCESS).outcome == "cancelled"


def test_a_message_in_another_encoding_is_no_obstacle():
    assert interpret(200, PUBLISHED_SUCCESS.decode().encode("latin-1")).outcome == "cancelled"
    assert interpret(200, PUBLISHED_XML_SUCCESS.decode().encode("latin-1")).outcome == "cancelled"


def test_a_body_over_16_kib_is_unreadable():
    just_fits = PUBLISHED_SUCCESS + b" " * (16 * 1024 - len(PUBLISHED_SUCCESS))
    assert interpret(200, just_fits).outcome == "cancelled"
    assert interpret(200, just_fits + b" ").outcome == "unreadable"


@given(status=st.integers(), body=st.binary())
def test_any_status_and_any_bytes_have_one_outcome(status, body):
    assert isinstance(interpret(status, body).outcome, Outcome)


@given(
    status=st.integers(100, 599),
    success=st.none() | st.booleans() | st.text() | st.integers(),
    code=st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
)
def test_success_is_said_for_nothing_but_the_two_documented_answers(status, success, code):
    body = json.dumps({"success": success, "code": code}).encode()
    cancelled = success is True and type(code) is int and code == 200 and 200 <= status < 300
    digits = isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= 9
    already = success is False and type(code) in (int, str) and str(code).lstrip("0") == "5"
    already = already and (digits or type(code) is int)
    already = already and status != 429 and not 300 <= status < 400
    assert interpret(status, body).outcome.done == (cancelled or already)
