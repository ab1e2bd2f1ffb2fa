"""Removes what a built function does not use; run by the Makefile, not shipped."""

import ast
import json
import shutil
import sys
from pathlib import Path

UNUSED = (
    "*.dist-info",
    "bin",
    "certifi/tests",
    "boto3/data/*",  # boto3's resources; only its clients are used
    "aws_lambda_powertools/event_handler",
)
POWERTOOLS = ("jmespath_utils", "typing")  # the utilities that its logger imports

# boto3 imports this module for the base class of its S3 settings. The rest of the package is
# for transferring files. It imports multiprocessing and takes longer to load than boto3 itself.
S3TRANSFER = "class TransferConfig: ...\n\n\nclass TransferManager: ...\n"


def services() -> tuple[str, ...]:
    """Return the AWS services that the code uses, as listed in ``sms_cancel/aws.py``."""
    for node in ast.parse(Path("sms_cancel", "aws.py").read_text()).body:
        match node:
            case ast.Assign([ast.Name("SERVICES")], value):
                return tuple(ast.literal_eval(value))
    sys.exit("sms_cancel/aws.py must list the AWS services that the code uses in SERVICES")


def prune(folder: Path) -> None:
    """Keep only the data that botocore needs for our services, and remove what is unused."""
    needed = services()
    data = folder / "botocore" / "data"
    if missing := [name for name in needed if not (data / name).is_dir()]:
        sys.exit(f"botocore has no service {', '.join(missing)}: see SERVICES in sms_cancel/aws.py")
    for service in data.iterdir():
        if service.is_dir() and service.name not in needed:
            shutil.rmtree(service)
    endpoints = data / "endpoints.json"  # 1.3 MB, read in full for each client
    document = json.loads(endpoints.read_text())
    for partition in document["partitions"]:
        partition["services"] = {
            name: known for name, known in partition["services"].items() if name in needed
        }
    endpoints.write_text(json.dumps(document))
    utilities = [*(folder / "aws_lambda_powertools" / "utilities").glob("*/")]
    unused = [each for each in utilities if each.name not in POWERTOOLS]
    for each in (*unused, *(found for pattern in UNUSED for found in folder.glob(pattern))):
        shutil.rmtree(each)
    shutil.rmtree(folder / "s3transfer")
    (folder / "s3transfer").mkdir()
    (folder / "s3transfer" / "__init__.py").write_text("")
    (folder / "s3transfer" / "manager.py").write_text(S3TRANSFER)


if __name__ == "__main__":
    prune(Path(sys.argv[1]))
