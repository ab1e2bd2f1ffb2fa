"""Makes a deployment publish a Lambda version if, and only if, its content has changed.

CloudFormation creates a version whenever the hash that SAM puts into its logical id changes. SAM's
own hash also covers the bucket that the code is uploaded to, tags and reserved concurrency, which
are not part of a version. If only these change, Lambda publishes nothing, and the deployment fails
with "A version for this Lambda function exists". The digest made here, in the template that
``sam build`` has written, covers only what is part of a version: its properties as written in the
template, and the built files. The values of parameters, which only CloudFormation knows, are in
``VersionDescription``.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns about its own feature toggles

BUILT = Path(".aws-sam", "build", "template.yaml")

# Properties of AWS::Lambda::Function that belong to the function and not to its versions. If a new
# one is missing here, an unnecessary version is published, but nothing fails: see ``mark``.
_NOT_IN_A_VERSION = (
    "Code",  # the location of the files; their content is hashed separately
    "CodeSigningConfigArn",
    "RecursiveLoop",
    "ReservedConcurrentExecutions",
    "Tags",
)


def mark(template: Path) -> None:
    """Add to each function of a built template the digest of its version's content.

    SAM hashes ``AutoPublishCodeSha256`` instead of its own choice, and appends it to the function's
    description. So a new version always differs from the one before, and Lambda publishes it.
    """
    marked = yaml_parse(template.read_text())
    for name, digest in _digests(copy.deepcopy(marked), template.parent):
        marked["Resources"][name]["Properties"]["AutoPublishCodeSha256"] = digest
    template.write_text(json.dumps(marked, indent=2))


def _digests(written: dict[str, Any], built: Path) -> Iterator[tuple[str, str]]:
    folders = {}
    for name, resource in written["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            folders[name] = built / resource["Properties"]["CodeUri"]
            resource["Properties"]["CodeUri"] = "s3://bucket/key"  # SAM accepts no folder here
    session = boto3.Session(region_name="us-east-1")  # required, but not used here
    made = Translator({}, Parser(), boto_session=session).translate(written, {})
    for name, folder in folders.items():
        properties: dict[str, Any] = made["Resources"][name]["Properties"]
        held = {key: properties[key] for key in properties.keys() - set(_NOT_IN_A_VERSION)}
        text = json.dumps([held, _files(folder)], sort_keys=True)
        yield name, hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
