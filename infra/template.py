"""Reads a CloudFormation template, with its short forms (``!Ref``, ``!Sub`` …) expanded."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    pass


def _write_out(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _write_out)


def load(path: Path) -> dict[str, Any]:
    """Return a template as it would be in JSON."""
    template: dict[str, Any] = yaml.load(path.read_text(), _Loader)  # noqa: S506  a SafeLoader
    return template
