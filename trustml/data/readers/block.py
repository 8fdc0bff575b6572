"""Rows between a file and the parts of a data set."""

import dataclasses
import hashlib
from typing import Any

from trustml.data.content import Content

ALL = "all"  # the key of a block that no publisher has divided


@dataclasses.dataclass
class Block:
    """Rows as read, with what decides their part and owner.

    Args:
      verdict: What the checksum of the file said.
    """

    verdict: str
    rows: list[Any] = dataclasses.field(default_factory=list)
    locations: list[str] = dataclasses.field(default_factory=list)  # file and line, for messages
    keys: list[str] = dataclasses.field(default_factory=list)  # rows with one key share a part
    owners: list[str] = dataclasses.field(default_factory=list)  # empty where rows have none
    groups: list[str] = dataclasses.field(default_factory=list)  # empty where rows have none

    def add(
        self, location: str, row: Any, key: str, owner: str | None = None, group: str | None = None
    ) -> None:
        """Appends one row."""
        self.rows.append(row)
        self.locations.append(location)
        self.keys.append(key)
        if owner is not None:
            self.owners.append(owner)
        if group is not None:
            self.groups.append(group)


def block_of(content: Content) -> Block:
    """An empty block for the rows of a file."""
    return Block(content.verdict)


def divide(block: Block, shares: tuple[float, ...]) -> list[Block]:
    """Blocks that hold about `shares` of the rows. A row's key alone decides its block."""
    parts = [Block(block.verdict) for _ in shares]
    for row, key in enumerate(block.keys):
        part = parts[choose(key, shares)]
        part.add(
            block.locations[row],
            block.rows[row],
            key,
            block.owners[row] if block.owners else None,
            block.groups[row] if block.groups else None,
        )
    return parts


def choose(key: str | bytes, shares: tuple[float, ...]) -> int:
    """Index of the part that a key falls in: by its hash, whatever the other keys are.

    >>> [choose(name, (0.8, 0.1, 0.1)) for name in ("HAMLET", "OPHELIA", "YORICK")]
    [0, 1, 1]
    """
    draw = part_draw(key)
    for part, share in enumerate(shares[:-1]):
        if draw < share:
            return part
        draw -= share
    return len(shares) - 1


def part_draw(key: str | bytes) -> float:
    """What decides the part of a key: by its hash, uniform from 0 to 1."""
    data = key if isinstance(key, bytes) else key.encode()
    digest = hashlib.sha256(b"trustml part\x00" + data).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
