"""What a report must hold to be shown; `schema.json` describes every field."""

import functools
import importlib.resources
import json
from typing import Any

SCHEMA_VERSION = 2

# What to call a section that is not there, in the sentence that says so.
_SECTIONS = {
    "claim": "the curve of epsilon over the steps",
    "results": "the utility of the models",
    "attack": "an attack on the models",
    "groups": "the figures of groups",
    "timing": "the time of a step and its parts",
    "clipping": "the norms of the gradients",
    "learning": "the losses over the steps",
    "ledger": "the ledger of what was charged",
}
_OBJECTS = ("run", "data", "privacy")


@functools.cache
def _schema_text() -> str:
    return importlib.resources.files("trustml.report").joinpath("schema.json").read_text("utf-8")


def load_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report.

    >>> load_schema()["properties"]["schema_version"]["const"]
    2
    """
    return json.loads(_schema_text())


def check(report: Any) -> None:
    """Refuses what is not a report of the known version, by what every page needs.

    The full check is that of a JSON Schema validator with `load_schema()`; this one needs none.

    Raises:
      ValueError: It is no object, its version is another, or a required field is missing or of
        another kind.
    """
    if not isinstance(report, dict):
        raise ValueError(f"`report` must be a JSON object, got {type(report).__name__}.")
    schema = load_schema()
    _check_version(report)
    _check_object("report", report, schema)
    for name in _OBJECTS:
        _check_object(name, report[name], schema["properties"][name])


def _check_version(report: dict) -> None:
    known = SCHEMA_VERSION
    if "schema_version" not in report:
        raise ValueError(
            f"`schema_version` must be {known}, got none. Give a run's report.json, whole."
        )
    if report["schema_version"] != known or isinstance(report["schema_version"], bool):
        raise ValueError(
            f"`schema_version` must be {known}, got {report['schema_version']!r}. Show the report "
            "with the release of trustml that wrote it, or run the training again with this one."
        )


def _check_object(name: str, value: dict, schema: dict) -> None:
    missing = [key for key in schema["required"] if key not in value]
    if missing:
        raise ValueError(
            f"`{name}` must hold {', '.join(map(repr, schema['required']))}, got no "
            f"{', '.join(map(repr, missing))}. Give a run's report.json, whole."
        )
    kinds = {"object": dict, "array": list, "string": str}
    for key, field in schema["properties"].items():
        kind = field.get("type")
        if not (key in value and isinstance(kind, str) and kind in kinds):
            continue
        if not isinstance(value[key], kinds[kind]):
            found = type(value[key]).__name__
            raise ValueError(f"`{name}.{key}` must be a JSON {kind}, got {found}.")


def absence(report: dict[str, Any], section: str) -> str:
    """Why a section of the page has nothing to show."""
    what, status = _SECTIONS.get(section, section), report["status"]
    if section == "claim" and report["privacy"]["epsilon"] is None:
        return "There is no curve to show: epsilon is infinite, so nothing is claimed."
    if status == "unfinished":
        return f"Not there yet: {what}. The run has not finished."
    if status == "stopped early":
        return f"Not there: {what}. The run was stopped before it was measured."
    return f"Not there: {what}. This run was not asked to measure it."
