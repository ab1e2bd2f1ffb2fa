"""Coverage-guided fuzzing (atheris) of what reads the provider's answers and the callers' requests.

Claim: whatever the bytes, `interpret` gives one outcome and the parsers a valid id or none; no
exception gets out; success is said for nothing that does not hold `true` and 200, or `false` and 5.
Needs Python 3.12 or newer: atheris has no build for an older one.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
STATUSES = (200, 400, 401, 403, 404, 429, 302, 500, 503)


def fuzz(target: str, seconds: int, found: str) -> None:
    """Run one target in this process, which libFuzzer ends; what it finds goes into a folder."""
    import atheris  # noqa: PLC0415  only the process that fuzzes has it loaded

    with atheris.instrument_imports(include=["sms_cancel.answer", "sms_cancel.request", "json"]):
        from sms_cancel import answer, request  # noqa: PLC0415
        from sms_cancel.outcome import Kind, Outcome  # noqa: PLC0415

    def interpret(data: bytes) -> None:
        status = STATUSES[data[0] % len(STATUSES)] if data else 200
        body = data[1:]
        found = answer.interpret(status, body)
        assert type(found.outcome) is Outcome
        assert found.code is None or abs(found.code) <= answer.MAX_CODE
        if found.outcome is Outcome.CANCELLED:
            assert status == 200 and b"true" in body and b"200" in body  # noqa: PT018
        if found.outcome is Outcome.ALREADY_CANCELLED:
            assert b"false" in body and b"5" in body  # noqa: PT018
        account = answer.interpret_account(status, body)
        assert account.outcome.kind in (Kind.READY, Kind.BLOCKED, Kind.PASSING)
        if account.outcome is Outcome.ACCOUNT_READY:
            assert found.outcome is Outcome.CANCELLED and b"creditSms" in body  # noqa: PT018

    def message_body(data: bytes) -> None:
        message_id = request.read(data.decode("utf-8", errors="surrogateescape")).message_id
        assert message_id is None or re.fullmatch("[0-9]{1,20}", message_id, re.ASCII)

    def path_parameter(data: bytes) -> None:
        text = data.decode("utf-8", errors="surrogateescape")
        valid = re.fullmatch(r"[0-9]{1,20}", text) is not None
        assert (request.read_message_id(text) is not None) == valid

    targets: dict[str, Callable[[bytes], None]] = {
        "interpret": interpret,
        "message_body": message_body,
        "path_parameter": path_parameter,
    }
    # libFuzzer keeps what it finds in the first folder: the repository's corpus stays small.
    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={found}/",
        found, str(CORPUS / target),
    ]  # fmt: skip
    atheris.Setup(arguments, targets[target], enable_python_coverage=True)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", help="run this one in this process")
    parser.add_argument("--found", default=".", help="the folder for what it finds")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.exit("fuzz needs Python 3.12 or newer: atheris has no build for an older one")
    if options.target:
        fuzz(options.target, options.seconds, options.found)
    command = [sys.executable, "-m", "tests.faults.fuzz", "--seconds", str(options.seconds)]
    failed = 0
    for target in ("interpret", "message_body", "path_parameter"):
        with tempfile.TemporaryDirectory() as found:
            ended = subprocess.run(
                [*command, "--target", target, "--found", found],
                capture_output=True,
                text=True,
                check=False,
            )
        done = re.search(r"Done (\d+) runs", ended.stderr)
        failed += ended.returncode != 0 or done is None
        if ended.returncode or done is None:
            print(ended.stderr[-3000:])
        print(
            f"{target}: {done[1] if done else 0} inputs, "
            f"{'0' if ended.returncode == 0 else 'at least 1'} uncaught",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
