"""Deploys the real template.yaml on this machine, to ministack, a simulated AWS on loopback.

This needs neither an AWS account nor Docker. ministack is a process of its own, which ends with the
``with`` block; the functions are built as ``sam build`` builds them.
"""

import fcntl
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import boto3
import trustme

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"  # what `make clean` removes
GUARD = Path(__file__).with_name("ministack_guard.py")
REGION = "eu-west-3"
CREDENTIALS = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}  # ministack's root user
READY_S = 60

_ca_files: dict[str, Path] = {}  # by endpoint


class LocalStackError(Exception):
    """The local stack did not start, or rejected the template; the text says why."""


@contextmanager
def ministack(python: str = sys.executable) -> Iterator[str]:
    """Run ministack with the given Python and yield the URL of all its AWS services."""
    with tempfile.TemporaryDirectory(prefix="sms-cancel-") as folder:
        port = _free_port()
        endpoint = f"https://127.0.0.1:{port}"
        _ca_files[endpoint] = _issue_certificate(Path(folder))
        with Path(folder, "ministack.log").open("w+b") as log:
            process = subprocess.Popen(
                [python, str(GUARD), folder],
                env=_environment(port, folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; the guard outlives us and cleans up
            )
            try:
                _wait_until_ready(process, endpoint, log)
                yield endpoint
            finally:
                process.communicate()  # closes its standard input and waits until it has ended


def _issue_certificate(folder: Path) -> Path:
    """Issue ministack's certificate; return the file with the authority that signed it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")  # ministack uses both names
    for name, pem in (
        ("ca.pem", authority.cert_pem),
        ("certificate.pem", certificate.cert_chain_pems[0]),
        ("key.pem", certificate.private_key_pem),
    ):
        pem.write_to_path(folder / name)
    return folder / "ca.pem"


def ca_file(endpoint: str) -> str:
    """Return the file with the certificate authority of a local stack, for its clients."""
    return str(_ca_files[endpoint])


def tls(endpoint: str) -> ssl.SSLContext:
    """Return a TLS context for urllib that trusts a local stack."""
    return ssl.create_default_context(cafile=ca_file(endpoint))


def _environment(port: int, folder: str) -> dict[str, str]:
    return {
        # The functions inherit this, so it must not contain anything of the user's.
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": folder,
        "TMPDIR": folder,
        "STATE_DIR": folder,  # by default, all share a folder in /tmp that holds a private key
        "BIND_HOST": "127.0.0.1",  # the default is every interface
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "USE_SSL": "1",  # as in AWS: the template's policies refuse plain http
        "MINISTACK_SSL_CERT": f"{folder}/certificate.pem",
        "MINISTACK_SSL_KEY": f"{folder}/key.pem",
        "SSL_CERT_FILE": f"{folder}/ca.pem",
        "AUTH": "true",  # enforce the policies of roles and users
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: BinaryIO) -> None:
    health, context = f"{endpoint}/_ministack/health", tls(endpoint)
    give_up_at = time.monotonic() + READY_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=1, context=context):
                return
        except OSError:
            time.sleep(0.05)
    log.seek(0)
    text = log.read().decode(errors="replace")
    raise LocalStackError(f"ministack did not start:\n{text[-2000:]}")


def client(endpoint: str, service: str, **options: Any) -> Any:
    """Return a boto3 client for a service of the local stack, as its root user."""
    credentials = CREDENTIALS | {key: options.pop(key) for key in CREDENTIALS if key in options}
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        verify=ca_file(endpoint),
        **credentials,
        **options,
    )


def build(artifacts: Path) -> None:
    """Build what ships into a folder, with the Makefile that ``sam build`` uses."""
    _make("build-ApiFunction", ARTIFACTS_DIR=str(artifacts))


def built() -> Path:
    """Return a folder with what ships; it is built again only if a source has changed."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "function.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another `make run` may be building it right now
        _make("../build/function.ready")
    return BUILD / "function"


def _make(target: str, **variables: str) -> None:
    if not shutil.which("make"):
        raise LocalStackError("make is not installed")
    made = subprocess.run(
        ["make", "--silent", "-C", str(ROOT / "functions"), target],
        env=os.environ | {"PYTHON": sys.executable} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise LocalStackError(f"the function could not be built:\n{made.stdout}{made.stderr}")


def deploy(
    endpoint: str, artifacts: Path, stack_name: str = "sms-cancel", **parameters: str
) -> dict[str, str]:
    """Deploy template.yaml with the built function; return the stack's outputs."""
    cloudformation = client(endpoint, "cloudformation")
    cloudformation.create_stack(
        StackName=stack_name,
        TemplateBody=_package(endpoint, artifacts, stack_name),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
        ],
    )
    outputs = _outputs(cloudformation, stack_name)
    _repair_concurrency(client(endpoint, "lambda"))
    return outputs


def _package(endpoint: str, artifacts: Path, bucket: str) -> str:
    """Upload what template.yaml refers to; return it with the new addresses, as SAM does."""
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key="function.zip", Body=_zip(artifacts))
    monitoring = ROOT.joinpath("infra", "monitoring.yaml").read_bytes()
    s3.put_object(Bucket=bucket, Key="monitoring.yaml", Body=monitoring)
    template = ROOT.joinpath("template.yaml").read_text()
    for local, packaged in (
        ("CodeUri: functions/\n", f"CodeUri: s3://{bucket}/function.zip\n"),
        ("URL: infra/monitoring.yaml\n", f"URL: {endpoint}/{bucket}/monitoring.yaml\n"),
    ):
        if template.count(local) != 1:
            raise LocalStackError(f"template.yaml must contain {local.strip()!r} exactly once")
        template = template.replace(local, packaged)
    # In AWS a batch needs the same permission as one message, in ministack another one.
    for right in ("sqs:SendMessage", "sns:Publish"):
        template = template.replace(f"Action: {right}\n", f"Action: [{right}, {right}Batch]\n")
    return template


def _repair_concurrency(functions: Any) -> None:
    """Set MaximumConcurrency again, as a number: ministack stores it as text and never polls."""
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        functions.update_event_source_mapping(
            UUID=mapping["UUID"],
            ScalingConfig={key: int(value) for key, value in mapping["ScalingConfig"].items()},
        )


def _zip(folder: Path) -> bytes:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        file.seek(0)
        return file.read()


def _outputs(cloudformation: Any, stack_name: str) -> dict[str, str]:
    give_up_at = time.monotonic() + READY_S
    while time.monotonic() < give_up_at:
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        if stack["StackStatus"] != "CREATE_IN_PROGRESS":
            break
        time.sleep(0.05)
    events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    reasons = [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("FAILED") and event.get("ResourceStatusReason")
    ]
    raise LocalStackError("the template could not be deployed:\n" + "\n".join(reasons))
