"""KubeRay's published schemas, made strict: an unknown key is a mistake, which the API server would ignore."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CRDS = Path(__file__).parents[3].parent / "shared" / "crds"


@lru_cache
def _schema(kind: str) -> dict[str, Any]:
    definition = yaml.load((CRDS / f"{kind.lower()}s.yaml").read_text(), Loader=yaml.CSafeLoader)
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    return _strict(version["schema"]["openAPIV3Schema"])


def _strict(node: Any) -> Any:
    """The schema with unknown keys refused and keys with a default not required."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    properties = node.get("properties")
    if not isinstance(properties, dict):
        return {key: _strict(value) for key, value in node.items()}
    found = {key: _strict(value) for key, value in node.items() if key != "properties"}
    found["properties"] = {key: _strict(value) for key, value in properties.items()}
    if not node.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if "required" in node:
        found["required"] = [key for key in node["required"] if "default" not in properties.get(key, {})]
    return found


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, one line each."""
    checker = jsonschema.Draft202012Validator(_schema(manifest["kind"]))
    return [f"{error.json_path}: {error.message[:200]}" for error in checker.iter_errors(manifest)]
