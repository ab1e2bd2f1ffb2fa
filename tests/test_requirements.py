"""The lock, and the two requirements.txt that are exported from it for those who do not use uv."""

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.local.stack import ROOT

UV = ROOT / ".venv-uv" / "bin" / "uv"
EXPORTED = {
    "requirements.txt": ("--group", "code", "--group", "uv"),
    "functions/requirements.txt": ("--only-group", "functions"),
}


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


def extras_asked_for(name, python, chosen):
    """Yield which extras of other packages a package asks for, with these of its own."""
    for text in metadata.requires(name) or ():
        asked = Requirement(text)
        environments = [{"python_version": python, "extra": each} for each in chosen | {""}]
        if not asked.marker or any(map(asked.marker.evaluate, environments)):
            yield canonicalize_name(asked.name), asked.extras


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("path", EXPORTED)
def test_every_extra_that_a_pinned_package_asks_for_is_pinned_with_it(path, python):
    """Else pip looks for it in the newest version, and fails as soon as there is a newer one."""
    text = (ROOT / path).read_text()
    named = extras(text)
    installed = {canonicalize_name(each.name) for each in metadata.distributions()}
    pinned = {pin.split("==")[0] for pin in pins(text)}
    asked = [
        (name, extra)
        for each in pinned & installed
        for name, them in extras_asked_for(each, python, named.get(each, set()))
        for extra in them
    ]
    if path == "requirements.txt":
        assert ("coverage", "toml") in asked
    assert [(name, extra) for name, extra in asked if extra not in named.get(name, set())] == []


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
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    [locked] = [each["version"] for each in lock["package"] if each["name"] == "uv"]
    assert project["build-system"]["requires"] == [f"uv_build=={locked}"]
    assert project["tool"]["uv"]["required-version"] == f"=={locked}"


PYTHON_3_11 = next(filter(None, map(shutil.which, ("python3.11", "python3"))), "")
OLDEST_PIP = "22.3"  # what Python 3.11.0 brings


def is_3_11():
    asked = subprocess.run(
        [PYTHON_3_11, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"], check=False
    )
    return asked.returncode == 0


@pytest.fixture(scope="module")
def oldest_pip(tmp_path_factory):
    """Python 3.11 with the oldest pip."""
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run([PYTHON_3_11, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [UV, "pip", "install", "-q", "--python", python, f"pip=={OLDEST_PIP}"], check=True
    )
    return [python, "-m", "pip", "--disable-pip-version-check"]


def install(pip, *arguments, environment=None):
    return subprocess.run(
        [*pip, "install", "--quiet", "--dry-run", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


needs_3_11 = pytest.mark.skipif(
    not is_3_11(), reason="neither python3.11 nor python3 is Python 3.11"
)


@needs_3_11
def test_the_oldest_pip_takes_what_ships(oldest_pip):
    ended = install(oldest_pip, "--requirement", ROOT / "functions/requirements.txt")
    assert ended.returncode == 0, ended.stderr


def publish(index, name, version, text):
    """Add a wheel that holds nothing but its metadata to a package index; return its hash."""
    stem = f"{name.replace('-', '_')}-{version}"
    wheel = index / name / f"{stem}-py3-none-any.whl"
    wheel.parent.mkdir(exist_ok=True)
    with ZipFile(wheel, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", text)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    with (wheel.parent / "index.html").open("a") as page:
        page.write(f'<a href="{wheel.name}">{wheel.name}</a>\n')
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def described(name):
    try:
        return metadata.distribution(name).read_text("METADATA")
    except metadata.PackageNotFoundError:
        assert name in {"colorama", "uv"}  # for Windows, and in an environment of its own
        return f"Metadata-Version: 2.1\nName: {name}\n"


@needs_3_11
@pytest.mark.parametrize(("lost", "says"), [("", ""), ("[toml]", "versions pinned with ==")])
def test_the_oldest_pip_takes_all_of_it_whatever_is_published(lost, says, oldest_pip, tmp_path):
    """The requirements of the real packages, on an index where each has a newer version."""
    exported = (ROOT / "requirements.txt").read_text().replace(lost, "")
    pinned = []
    for pin, name, version in re.findall(
        r"^(([a-z0-9-]+)\S*==(\S+)[^\\]*)", exported, re.MULTILINE
    ):
        unversioned = re.sub(r"(?m)^Version: .*\n", "", described(name), count=1)
        digests = [
            publish(tmp_path, name, each, f"Version: {each}\n{unversioned}")
            for each in (version, "9999")
        ]
        pinned.append(f"{pin} --hash=sha256:{digests[0]}")
    (tmp_path / "requirements.txt").write_text("\n".join(pinned))
    environment = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
    ended = install(
        oldest_pip,
        *("--index-url", tmp_path.as_uri(), "--requirement", tmp_path / "requirements.txt"),
        environment=environment | {"PIP_CONFIG_FILE": os.devnull},  # no other index
    )
    assert bool(ended.returncode) is bool(lost), ended.stderr
    assert says in ended.stderr
