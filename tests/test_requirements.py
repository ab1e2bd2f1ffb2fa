"""The lock, and the two requirements.txt that are exported from it for those who do not use uv."""

import re
import subprocess
import tomllib

import pytest

from infra.local.stack import ROOT

UV = ROOT / ".venv-uv" / "bin" / "uv"
EXPORTED = {
    "requirements.txt": ("--group", "test", "--group", "uv"),
    "functions/requirements.txt": ("--only-group", "functions"),
}
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())


def pins(text):
    """Each pin without extras but with its condition: ``{"requests==2.34.2": {"sha256:…", …}}``."""
    lines = re.sub(r"#.*|\\\n", "", text).splitlines()
    found = {}
    for line in filter(str.strip, lines):
        pin, *hashes = line.split("--hash=")
        found[re.sub(r"\[.*\]|\s", "", pin)] = {each.strip() for each in hashes}
    return found


def extras(text):
    """The extras that a file names for each package: ``{"coverage": {"toml"}}``."""
    named = re.findall(r"^([a-z0-9-]+)\[([a-z0-9,-]+)\]==", text, re.MULTILINE)
    return {name: set(found.split(",")) for name, found in named}


@pytest.mark.parametrize("path", EXPORTED)
def test_what_is_exported_is_what_is_locked(path):
    exported = subprocess.run(
        [UV, "export", "--quiet", "--frozen", "--no-emit-project", *EXPORTED[path]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    locked = pins(exported)
    assert any(pin.startswith("requests==") for pin in locked)
    written = pins((ROOT / path).read_text())
    assert written.keys() == locked.keys(), "run make lock"
    for pin, hashes in locked.items():  # the lock has those that our Pythons can use
        assert hashes <= written[pin], "run make lock"


@pytest.mark.parametrize("path", EXPORTED)
def test_every_extra_that_a_pinned_package_asks_for_is_pinned_with_it(path):
    """Else pip looks for it in the newest version, and fails as soon as there is a newer one."""
    text = (ROOT / path).read_text()
    names = {re.split(r"==", pin)[0] for pin in pins(text)}
    asked_for = {}
    for package in LOCK["package"]:
        if package["name"] in names:
            for dependency in package.get("dependencies", []):
                wanted = asked_for.setdefault(dependency["name"], set())
                wanted.update(dependency.get("extra", []))
    missing = {
        name: wanted - extras(text).get(name, set())
        for name, wanted in asked_for.items()
        if name in names
    }
    assert asked_for
    assert {name: wanted for name, wanted in missing.items() if wanted} == {}, "run make lock"


@pytest.mark.parametrize("path", EXPORTED)
def test_each_pin_has_its_hashes_and_no_file_names_an_index(path):
    text = (ROOT / path).read_text()
    for pin, hashes in pins(text).items():
        assert re.match(r"[a-z0-9-]+==[\w.]+(;|$)", pin)
        assert hashes
    assert "://" not in text


def test_what_ships_is_what_is_tested():
    tested = pins((ROOT / "requirements.txt").read_text())
    shipped = pins((ROOT / "functions/requirements.txt").read_text())
    assert shipped.keys() <= tested.keys()


def test_what_ships_needs_no_condition():
    # pip judges a condition by the Python that runs it, not by the one it installs for.
    assert ";" not in (ROOT / "functions/requirements.txt").read_text()


def test_what_builds_the_project_is_what_the_lock_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [locked] = [each["version"] for each in LOCK["package"] if each["name"] == "uv"]
    assert project["build-system"]["requires"] == [f"uv_build=={locked}"]
    assert project["tool"]["uv"]["required-version"] == f"=={locked}"
