"""A partition as a file of JSON that others can read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from trustml.federated.partition.methods import parse_partition
from trustml.federated.partition.result import Partition
from trustml.strict_json import dumps
from trustml.training.runs.files import write_text

_FORMAT, _VERSION = "trustml partition", 1
_KINDS = {"method": str, "seed": int, "data": str, "rows": int, "client_of_row": list}


def save_partition(partition: Partition, path: str | Path) -> None:
    """Writes a partition as one object of JSON: `client_of_row` and what it was drawn by.

    >>> import tempfile
    >>> from trustml.federated.partition import partition
    >>> path = Path(tempfile.mkdtemp()) / "clients.json"
    >>> save_partition(partition("iid", clients=2, seed=0, rows=4), path)
    >>> load_partition(path).sizes.tolist()
    [2, 2]

    Args:
      partition: Of `partition` or `load_partition`.
      path: The file, which is replaced where there is one.
    """
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "method": str(partition.method),
        "seed": partition.seed,
        "data": partition.data,
        "rows": len(partition.client_of_row),
        "client_of_row": partition.client_of_row.tolist(),
    }
    write_text(Path(path), dumps(document) + "\n")


def load_partition(path: str | Path, *, data: str | None = None) -> Partition:
    """The partition of a file; see `save_partition`.

    Args:
      path: The file.
      data: `data_fingerprint` of the rows that it must belong to; None takes any.

    Raises:
      ValueError: It is no such file, or it is one of other data.
    """
    document = _read(Path(path))
    found = document["client_of_row"]
    whole = all(type(one) is int and -1 <= one < 2**63 for one in found)
    if not whole or len(found) != document["rows"]:
        raise ValueError(
            f"{path} must hold {document['rows']} whole numbers in `client_of_row`, at least -1: "
            "make it again."
        )
    if data is not None and document["data"] != data:
        raise ValueError(
            f"{path} must be a partition of this data ({data[:12]}...), got one of other data "
            f"({document['data'][:12]}...): make it again, or use the data that it was made from."
        )
    method = parse_partition(document["method"])
    return Partition(np.array(found, np.int64), method, document["seed"], document["data"])


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"`partition` must name a file that is there, got {path}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a partition in JSON, got: {error}.") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError(f"{path} must be a {_FORMAT}, got another document.")
    if document.get("version") != _VERSION:
        raise ValueError(
            f"{path} must be of version {_VERSION}, got {document.get('version')!r}: "
            "make it again with this trustml."
        )
    for name, kind in _KINDS.items():
        value = document.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{path} must hold `{name}`, got {value!r:.40}: make it again.")
    return document
