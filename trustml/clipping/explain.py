"""Says how each parameter is handled: site, rule, cost, fallbacks."""

from typing import NamedTuple

import jax

from trustml.clipping.trainable import path_name


class Row(NamedTuple):
    """How one parameter, or a part of it, is handled."""

    parameter: str
    shape: tuple[int, ...]
    site: str  # primitives where it meets data
    rule: str  # "gram", "materialise", "joint", "vmap", or "unused"
    extra_ms: float  # estimate of the cost over the plain gradient
    fallback: bool  # differentiated one unit at a time: exact, and as costly as vmap


class Explanation(tuple):
    """Rows; printing gives a table."""

    __slots__ = ()

    def __str__(self) -> str:
        head = ("parameter", "shape", "site", "rule", "extra ms", "fallback")
        body = [
            (
                row.parameter,
                "x".join(map(str, row.shape)) or "scalar",
                row.site,
                row.rule,
                f"{row.extra_ms:.3f}",
                "yes" if row.fallback else "",
            )
            for row in self
        ]
        widths = [max(len(line[place]) for line in (head, *body)) for place in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (head, *body)
        ]
        return "\n".join(lines)


def explanation(trained, strategy: str, clusters) -> Explanation:
    """One row per parameter and cluster, in the order of the parameters."""
    rows = []
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(trained)):
        name, shape = path_name(path), tuple(leaf.shape)
        if strategy == "vmap":
            rows.append(Row(name, shape, "loss", "vmap", 0.0, False))
            continue
        mine = [c for c in clusters if any(root.index == index for root in c.roots)]
        for cluster in mine:
            sites = " + ".join(dict.fromkeys(use.site.name for use in cluster.uses))
            share = 1e3 * cluster.seconds / len(cluster.roots)
            rows.append(Row(name, shape, sites, cluster.rule, share, cluster.fallback))
        if not mine:
            rows.append(Row(name, shape, "", "unused", 0.0, False))
    return Explanation(rows)
