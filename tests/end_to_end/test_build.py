"""What ``sam build`` makes: the very thing that ships, with all that it needs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.stack import ROOT
from sms_cancel import aws
from tests.bench import contenders

SAM = ROOT / ".venv-sam" / "bin" / "sam"
POWERTOOLS = ("jmespath_utils", "typing")
FUNCTIONS = ("ApiFunction", "WorkerFunction", "WatchFunction")


def sam_build(project, target):
    assert SAM.exists(), "the SAM CLI is not installed: run make test"
    return subprocess.run(
        [SAM, "build", "--template", project / "template.yaml", "--build-dir", target],
        cwd=target.parent,
        env=os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    target = tmp_path_factory.mktemp("sam") / "build"
    ended = sam_build(ROOT, target)
    assert ended.returncode == 0, ended.stderr
    return target


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_is_built_with_its_dependencies(built, function):
    libraries = ("requests", "aws_lambda_powertools", "boto3", "certifi")
    for name in ("sms_cancel/api.py", *libraries):
        assert (built / function / name).exists()
    for name in ("requirements.txt", "Makefile", "prune.py", "rehash.py"):
        assert not (built / function / name).exists()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_ships_that_is_not_used(built, function):
    data = built / function / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(aws.SERVICES)
    assert list((built / function).glob("*.dist-info")) == []
    assert list((built / function / "boto3" / "data").glob("*")) == []
    utilities = built / function / "aws_lambda_powertools" / "utilities"
    assert {path.parent.name for path in utilities.glob("*/__init__.py")} == set(POWERTOOLS)
    archive = shutil.make_archive(str(built.parent / function), "zip", built / function)
    assert Path(archive).stat().st_size < 6_000_000


@pytest.mark.parametrize("service", aws.SERVICES)
def test_every_service_that_the_code_uses_can_be_called_with_the_data_that_ship(built, service):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sms_cancel import aws; "
        "print(aws.client(sys.argv[2]).meta.endpoint_url)"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, built / "WorkerFunction", service],
        env={"PATH": os.defpath, "AWS_DEFAULT_REGION": "eu-west-3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == f"https://{service}.eu-west-3.amazonaws.com", ended.stderr


@pytest.mark.skipif(not shutil.which("openssl"), reason="the build makes the folder with openssl")
def test_the_root_certificates_are_in_a_folder_that_the_code_finds(built):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sms_cancel import deadline; "
        "print(deadline.CA_FOLDER); assert deadline.CA_FOLDER.is_dir()"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, built / "ApiFunction"],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == str(built / "ApiFunction" / "ca-certificates"), ended.stderr


@pytest.fixture
def project(tmp_path):
    """A copy of what the build reads, to be broken."""
    copy = tmp_path / "project"
    for folder in ("functions", "infra"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copy(ROOT / "template.yaml", copy)
    return copy


def test_a_service_that_botocore_does_not_have_fails_the_build(project, tmp_path):
    code = project / "functions" / "sms_cancel" / "aws.py"
    code.write_text(code.read_text().replace('"sqs")', '"sqz")'))
    ended = sam_build(project, tmp_path / "build")
    assert ended.returncode != 0
    assert "botocore has no service sqz" in ended.stderr


@pytest.mark.parametrize("handler", ["sms_cancel.api", "sms_cancel.worker", "sms_cancel.watch"])
def test_each_handler_starts_with_nothing_but_what_ships(built, handler):
    code = (
        f"import sys; sys.path.insert(0, sys.argv[1]); import {handler} as m; print(m.handler); "
        "assert 'multiprocessing.managers' not in sys.modules"  # what the stub in its place saves
    )
    ended = subprocess.run(
        # Isolated and without site-packages: an undeclared dependency is not to be found.
        [sys.executable, "-I", "-S", "-c", code, built / "ApiFunction"],
        env={"PATH": os.defpath, "AWS_DEFAULT_REGION": "eu-west-3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "handler" in ended.stdout


def test_what_is_compiled_is_compiled_for_lambda(built):
    libraries = list(built.rglob("*.so"))
    assert libraries
    assert all("cpython-313-aarch64" in library.name or "abi3" in library.name
               for library in libraries)  # fmt: skip


def test_the_nested_template_is_found_from_the_built_one(built):
    [url] = re.findall(r"TemplateURL: (.+)", (built / "template.yaml").read_text())
    assert "AWS::CloudWatch::Dashboard" in (built / url).read_text()


@pytest.mark.parametrize("step", [*contenders.STEPS, contenders.SHIPPED])
def test_each_step_that_is_measured_is_one_of_the_build(step, tmp_path):
    ended = subprocess.run(
        ["make", "--dry-run", "-C", ROOT / "functions", step],
        env=os.environ | {"FOLDER": str(tmp_path), "ARTIFACTS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "pip install" in ended.stdout


def test_a_build_without_a_manifest_fails(project, tmp_path):
    (project / "functions" / "requirements.txt").unlink()
    ended = sam_build(project, tmp_path / "build")
    assert ended.returncode != 0
    assert "requirements.txt" in ended.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="compiled only where 3.13 is at hand")
def test_every_module_has_bytecode_that_lambda_trusts(built):
    for function in FUNCTIONS:
        modules = set((built / function).rglob("*.py"))
        compiled = set((built / function).rglob("*.pyc"))
        assert {path.name for path in compiled} >= {"api.cpython-313.pyc", "worker.cpython-313.pyc"}
        assert len(compiled) == len(modules)
        # PEP 552: hash-based, and not checked against the source.
        assert {path.read_bytes()[4:8] for path in compiled} == {b"\1\0\0\0"}
