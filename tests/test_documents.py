"""What the documents say of each other and of the table of outcomes is so."""

import re

import pytest

from infra.local.stack import ROOT
from sms_cancel.outcome import Outcome

DOCUMENTS = [ROOT / each for each in ("README.md", "infra/README.md", "infra/runbook.md",
                                      "tests/README.md")]  # fmt: skip


def anchors(document):
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: str(each.relative_to(ROOT)))
def test_each_link_leads_somewhere_and_no_blank_was_left(document):
    text = document.read_text()
    assert re.findall(r"@[A-Z_]+@", text) == []
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text)
    assert links
    for path, anchor in links:
        target = (document.parent / path) if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_readme_shows_the_table():
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (\d{3})( \+ Retry-After)? \| (.+?) \| (.*?) ?\|$",
                      (ROOT / "README.md").read_text(), re.MULTILINE)  # fmt: skip
    doors = {"done": "done", "final": "dead-letter now", "blocked": "retry, slow"}
    assert [(word, int(status), door, bool(alert)) for word, status, _, door, alert in rows] == [
        (each, each.status, doors.get(each.kind.value, "retry"), each.kind.value == "blocked")
        for each in Outcome
        if each is not Outcome.ACCOUNT_READY  # which is said of no cancel
    ]
    assert [word for word, _, retry_after, *_ in rows if retry_after] == [
        "throttled", "unavailable", "timed_out", "key_unavailable",
    ]  # fmt: skip


def test_the_readme_is_read_in_one_go():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
