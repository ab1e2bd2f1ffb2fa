"""The run itself fails where a test is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
pytest_plugins = ["suite"]

def pytest_collection_modifyitems(items):
    items.append(items[0])  # two items of one node id, of which xdist runs one
"""
TESTS = "def test_one(): pass\ndef test_two(): pass\n"


@pytest.mark.parametrize("processes", [[], ["--numprocesses", "2"]])
def test_a_test_that_is_collected_twice_fails_the_run(tmp_path, processes):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", *processes, str(tmp_path)],
        env={
            "PYTHONPATH": str(Path(__file__).parent),
            "PATH": "/usr/bin:/bin",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the others take seconds to import
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert "LOST test_it.py::test_one" in ended.stdout
    assert "LOST test_it.py::test_two" not in ended.stdout
