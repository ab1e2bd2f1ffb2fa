"""Who is measured, built as it ships: ourselves, step by step, the tutorial, the floor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import trustme

import authority
from infra.local.stack import ROOT
from tests.bench.loopback import API_KEY
from tests.bench.measure import Contender

HERE = Path(__file__).parent
UV = ROOT / ".venv-uv" / "bin" / "uv"
STEPS = ("install", "prune", "rehash", "compile")  # of functions/Makefile; the last is what ships


def build(folder: Path) -> None:
    """Build every contender into a folder of its own, as it ships."""
    for step in STEPS:
        subprocess.run(
            ["make", "--silent", "-C", str(ROOT / "functions"), step],
            env=os.environ | {"ARTIFACTS_DIR": str(folder / step), "PYTHON": sys.executable},
            check=True,
        )
    python = folder / "runtime" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "runtime")], check=True)
    _install(python, "runtime")
    _install(python, "tutorial", "--no-compile", "--target", str(folder / "tutorial"))
    shutil.copytree(folder / "tutorial", folder / "bytecode")
    compiling = ("compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    subprocess.run([sys.executable, "-m", *compiling, str(folder / "bytecode")], check=True)


def _install(python: Path, group: str, *options: str) -> None:
    requirements = python.parent / f"{group}.txt"
    locked = ["export", "--quiet", "--frozen", "--only-group", group, "--output-file"]
    subprocess.run([str(UV), *locked, str(requirements)], cwd=ROOT, check=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--require-hashes")
    pip = [str(python), "-m", "pip", "install", *quiet, *options, "-r", str(requirements)]
    subprocess.run(pip, check=True)


def sizes(folder: Path) -> dict[str, float]:
    """Return the zipped size of each, in megabytes."""
    return {
        built: Path(shutil.make_archive(str(folder / built), "zip", folder / built)).stat().st_size
        / 1e6
        for built in (*STEPS, "tutorial", "bytecode")
    }


def trust(folder: Path, ca: trustme.CA) -> None:
    """Have each contender trust an authority besides its roots."""
    for built in (*STEPS, "tutorial", "bytecode"):
        authority.trust(folder / built, ca)


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

    shipped, tutorial, bytecode = folder / "compile", folder / "tutorial", folder / "bytecode"
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
        **{
            f"our queue, {threads} threads": contender(
                "worker.handler", shipped, HERE / "threads", THREADS=str(threads)
            )
            for threads in (5, 10, 20, 40)
        },
    }
