"""JSON files of published models."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, kind: type = dict) -> Any:
    """The JSON document of a file.

    >>> read_json(Path("no-such-file"))
    Traceback (most recent call last):
    ValueError: no-such-file must be a readable JSON file: [Errno 2] No such file or directory: \
'no-such-file'.

    Raises:
      ValueError: It cannot be read, or is not a `kind`.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file: {error}.") from None
    if not isinstance(document, kind):
        name = "object" if kind is dict else "list"
        raise ValueError(f"{path} must hold a JSON {name}, got {type(document).__name__}.")
    return document
