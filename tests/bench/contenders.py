"""Who is measured, built as it ships: ourselves, step by step, the tutorial, the floor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.local.stack import ROOT
from tests.bench.loopback import API_KEY
from tests.bench.measure import Contender

HERE = Path(__file__).parent
UV = ROOT / ".venv-uv" / "bin" / "uv"
CACHES = shutil.ignore_patterns("__pycache__")
STEPS = ("install", "prune", "rehash")  # of functions/Makefile, of what ships
SHIPPED = "build-ApiFunction"


BUILT = (*STEPS, SHIPPED, "tutorial", "bytecode")
THREADS = tuple(f"our queue, {threads} threads" for threads in (5, 10, 20, 40))


def build(folder: Path, name: str, against: Path | None) -> None:
    """Build what a contender runs on, as it ships, into a folder of that name.

    ``against``: the functions/ folder of another checkout, for the contender ``before``.
    """
    python = folder / "runtime" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "runtime")], check=True)
        _install(python, "runtime")
    functions = ROOT / "functions"
    if name in STEPS:
        shutil.copytree(functions / "sms_cancel", folder / name / "sms_cancel", ignore=CACHES)
        _make(functions, name, FOLDER=folder / name)
    elif name == SHIPPED:
        _make(functions, name, ARTIFACTS_DIR=folder / name)
    elif name == "before":
        assert against
        _make(against, SHIPPED, ARTIFACTS_DIR=folder / name)
    else:
        _install(python, "tutorial", "--no-compile", "--target", str(folder / name))
    if name == "bytecode":
        compiling = ("compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
        subprocess.run([sys.executable, "-m", *compiling, str(folder / name)], check=True)


def _make(functions: Path, step: str, **folders: Path) -> None:
    variables = {name: str(folder) for name, folder in folders.items()}
    subprocess.run(
        ["make", "--silent", "-C", str(functions), step],
        env=os.environ | {"PYTHON": sys.executable} | variables,
        check=True,
    )


def _install(python: Path, group: str, *options: str) -> None:
    requirements = python.parent / f"{group}.txt"
    locked = ["export", "--quiet", "--frozen", "--only-group", group, "--output-file"]
    subprocess.run([str(UV), *locked, str(requirements)], cwd=ROOT, check=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--require-hashes")
    pip = [str(python), "-m", "pip", "install", *quiet, *options, "-r", str(requirements)]
    subprocess.run(pip, check=True)


def contenders(folder: Path, provider_port: int, aws_port: int) -> dict[str, Contender]:
    """Return them by name; those whose name ends with "queue" take SQS events."""
    aws = f"https://127.0.0.1:{aws_port}"
    variables = {
        "API_KEY": API_KEY,  # the floor's, which has no Secrets Manager
        "API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-3:000000000000:secret:key",
        "ALERT_TOPIC_ARN": "arn:aws:sns:eu-west-3:000000000000:alerts",
        "QUEUE_URL": f"{aws}/queue",
        "DEAD_LETTER_QUEUE_URL": f"{aws}/dead-letters",
        "MAX_RECEIVE_COUNT": "70",
        "OUTCOME_EVENTS": "false",
        "SMSPARTNER_URL": f"https://127.0.0.1:{provider_port}/v1",
        "POWERTOOLS_SERVICE_NAME": "sms-cancel",
        "POWERTOOLS_METRICS_NAMESPACE": "SmsCancel",
        "AWS_ENDPOINT_URL": aws,
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PYTHONDONTWRITEBYTECODE": "1",  # as in Lambda, whose folder is read-only
    }

    def contender(handler: str, *paths: Path, **more: str) -> Contender:
        return Contender(handler, paths, variables | more, str(folder / "runtime/bin/python"))

    shipped, tutorial, bytecode = folder / SHIPPED, folder / "tutorial", folder / "bytecode"
    return {
        "ours": contender("sms_cancel.api.handler", shipped),
        "tutorial": contender("api.handler", tutorial, HERE / "tutorial"),
        "tutorial with bytecode": contender("api.handler", bytecode, HERE / "tutorial"),
        "floor": contender("api.handler", bytecode, HERE / "floor"),
        "ours as pip leaves it": contender("sms_cancel.api.handler", folder / "install"),
        "ours pruned": contender("sms_cancel.api.handler", folder / "prune"),
        "ours with hashed roots": contender("sms_cancel.api.handler", folder / "rehash"),
        "our queue": contender("sms_cancel.worker.handler", shipped),
        "BatchProcessor's queue": contender("worker.handler", bytecode, HERE / "tutorial"),
        "before": contender("sms_cancel.api.handler", folder / "before"),
        "before's queue": contender("sms_cancel.worker.handler", folder / "before"),
        **{
            name: contender("worker.handler", shipped, HERE / "threads", THREADS=name.split()[2])
            for name in THREADS
        },
    }
