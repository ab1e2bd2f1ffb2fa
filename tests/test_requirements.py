"""What is chosen by hand (requirements.in) and what is computed from it (requirements.txt)."""

import re

import pytest

from infra.local.stack import ROOT

PLACES = ("requirements", "functions/requirements", "infra/*/requirements", "tests/**/requirements")
CHOSEN = [path for place in PLACES for path in ROOT.glob(f"{place}.in")]
COMPUTED = [path for place in PLACES for path in ROOT.glob(f"{place}.txt")]
SHIPPED = ROOT / "functions" / "requirements.txt"


def pins(path):
    """Each pin of a computed file, with its hashes: ``{"requests==2.34.2": {"sha256:…", …}}``."""
    text = re.sub(r"#.*|\\\n", "", path.read_text())
    lines = [line for line in text.splitlines() if line.strip()]
    return {
        re.match(r"[^\s;]+", line)[0]: set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
        for line in lines
    }


def chosen(path):
    """Each name, as a computed file writes it (PEP 503), with its version if one is chosen."""
    found = re.findall(r"^(\w[\w.-]*)(?:\[.*\])?(==\S+)?", path.read_text(), re.MULTILINE)
    return [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found]


def computed_from(path):
    return path.with_suffix(".txt")


def test_each_computed_file_has_its_chosen_one():
    assert len(CHOSEN) >= 5
    assert sorted(COMPUTED) == sorted(computed_from(path) for path in CHOSEN)


@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_chosen_is_what_is_pinned(path):
    names = {pin.split("==")[0]: pin for pin in pins(computed_from(path))}
    requirements = chosen(path)
    assert requirements
    for name, version in requirements:
        assert names[name].startswith(name + version), "run make lock"


@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_pin_has_its_hashes_and_no_file_names_an_index(path):
    for pin, hashes in pins(computed_from(path)).items():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+", pin)
        assert hashes
    assert "://" not in computed_from(path).read_text()


def test_what_ships_is_what_is_tested():
    tested = pins(ROOT / "requirements.txt")
    shipped = pins(SHIPPED)
    assert "requests" in {pin.split("==")[0] for pin in shipped}
    assert {pin: tested.get(pin) for pin in shipped} == shipped


def test_what_ships_needs_no_condition():
    # pip judges a condition by the Python that runs it, not by the one it installs for.
    assert ";" not in SHIPPED.read_text()
