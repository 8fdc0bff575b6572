"""YAML files of settings, read strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trustml.formatting import one_line


class _Loader(yaml.SafeLoader):
    """Refuses a name that occurs twice: YAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        """As the base does, after a look at the names."""
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the name {twice!r} occurs twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, by names with underscores.

    Raises:
      ValueError: It is missing, cut off or no mapping.
    """
    try:
        content = yaml.load(path.read_text(), _Loader)
    except OSError as error:
        raise ValueError(f"`{path}` must be a YAML file of settings: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = one_line(error)
        raise ValueError(f"`{path}` must be a whole YAML file of settings: {line}.") from None
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(
            f"`{path}` must map names of settings to values, got {type(content).__name__}."
        )
    return {name.replace("-", "_"): value for name, value in content.items()}


def to_yaml(values: Mapping[str, Any], head: str) -> str:
    """A YAML document that begins with a comment."""
    lines = "".join(f"# {line}\n" for line in head.splitlines())
    return lines + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
