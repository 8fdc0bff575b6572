"""Reports as JSON and back, and the JSON Schema of them, all generated from the dataclasses.

`trustml report --schema > trustml/report/schema.json` writes the schema anew.
"""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Sequence
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from trustml.report.document import SCHEMA_VERSION, Description, Report
from trustml.strict_json import dumps

_WHOLE = "Give a run's report.json, whole."
# Of errors about kinds: what JSON calls them.
_KINDS = {
    "dataclass_type": "object",
    "dict_type": "object",
    "tuple_type": "array",
    "string_type": "string",
    "int_type": "number",
    "float_type": "number",
    "bool_type": "boolean",
}


class _Schema(GenerateJsonSchema):
    """Without titles, which would only repeat the names."""

    def field_title_should_be_set(self, schema) -> bool:
        return False


@functools.cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)


def to_json(part: Any) -> Any:
    """The document of a report, or of a part of one, as `json.loads` would give it.

    >>> from trustml.report.measured import Estimate
    >>> to_json(Estimate(0.71, 0.68, None, "Wilson, 95 %"))
    {'value': 0.71, 'low': 0.68, 'high': None, 'interval': 'Wilson, 95 %'}
    """
    return _adapter(part.__class__).dump_python(part, mode="json")


def from_json(document: Any) -> Report:
    """The report that a document of `schema.json` describes.

    >>> from_json({})
    Traceback (most recent call last):
    ...
    ValueError: `schema_version` must be 3, got none. Give a run's report.json, whole.

    Args:
      document: As `json.loads` gives it.

    Raises:
      ValueError: It is no object, its version is another, or a field is missing or of another kind.
    """
    if not isinstance(document, dict):
        raise ValueError(f"`report` must be a JSON object, got {type(document).__name__}.")
    _check_version(document)
    return _parse(Report, document, _WHOLE)


def description_from_json(document: dict[str, Any]) -> Description:
    """What `resolved.yaml` says of a run.

    Raises:
      ValueError: A field is missing or of another kind.
    """
    return _parse(Description, document, "Restore the file from a backup.")


def load_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report, from the package's file.

    >>> load_schema()["properties"]["schema_version"]["const"]
    3
    """
    return json.loads(importlib.resources.files(__package__).joinpath("schema.json").read_text())


def make_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report, generated.

    >>> make_schema() == load_schema()
    True
    """
    schema = _adapter(Report).json_schema(schema_generator=_Schema)
    title = "Trust report of a trustml run"
    return {"$schema": _Schema.schema_dialect, **schema, "title": title}


def _parse(kind: type, document: dict[str, Any], way_out: str) -> Any:
    try:  # strict, yet JSON's arrays are tuples
        return _adapter(kind).validate_json(dumps(document), strict=True)
    except ValidationError as error:
        raise ValueError(_message(kind, error, way_out)) from None
    except ValueError as error:  # NaN, an infinity, or too many digits
        raise ValueError(f"`report` must be standard JSON: {error}. {way_out}") from None


def _message(kind: type, error: ValidationError, way_out: str) -> str:
    """The first error, in this project's words."""
    errors = error.errors(include_url=False)
    missing = [one["loc"] for one in errors if one["type"] == "missing"]
    if missing:
        *above, last = missing[0]
        required = ", ".join(map(repr, _required(kind, above))) or repr(last)
        lacking = ", ".join(repr(one[-1]) for one in missing if list(one[:-1]) == above)
        return f"`{_path(above)}` must hold {required}, got no {lacking}. {way_out}"
    first, got = errors[0], errors[0]["input"]
    if not first["loc"]:  # half a surrogate pair, or too deep
        return f"`report` must be standard JSON: {first['msg']}. {way_out}"
    # A number is an int or a float: pydantic names the one it tried last.
    *above, last = [part for part in first["loc"] if part not in ("int", "float")]
    path = f"{_path(above)}.{last}"
    if first["type"] in _KINDS:
        return f"`{path}` must be a JSON {_KINDS[first['type']]}, got {type(got).__name__}."
    return f"`{path}`: {first['msg']}, got {got!r:.60}. {way_out}"


def _path(parts: Sequence[str | int]) -> str:
    return ".".join(map(str, parts)) or "report"


def _required(kind: Any, path: list) -> list[str]:
    """The fields of the part at `path` that have no default; none where it is in a union."""
    for name in path:
        kind = get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    if not dataclasses.is_dataclass(kind):
        return []
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    return [one.name for one in fields if one.default is missing is one.default_factory]


def _check_version(document: dict[str, Any]) -> None:
    known = SCHEMA_VERSION
    if "schema_version" not in document:
        raise ValueError(f"`schema_version` must be {known}, got none. {_WHOLE}")
    if document["schema_version"] != known or isinstance(document["schema_version"], bool):
        raise ValueError(
            f"`schema_version` must be {known}, got {document['schema_version']!r}. Show the "
            "report with the release of trustml that wrote it, or run the training again with "
            "this one."
        )
