"""How a value comes from parameters: exactly, by moving entries only, or by arithmetic."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from trustml.bookkeeping.run import HoistedValues, over_loops
from trustml.bookkeeping.values import Hoisted, bind, is_real

_SAME = {"convert_element_type", "copy", "copy_p", "reduce_precision"}


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """A value whose entries are distinct entries of one parameter, so that norms carry over.

    `box` bounds, per parameter axis, the entries used; `axes` says which parameter axis each axis
    of the value's array (loop axes included) runs along, or is None where a reshape mixed them.
    """

    root: Hoisted
    value: Hoisted
    box: tuple[tuple[int, int], ...]
    axes: tuple[int | None, ...] | None
    chain: tuple[Hoisted, ...] = ()  # from the root to the value, equations only

    def overlaps(self, other: "Path") -> bool:
        """Whether an entry of the parameter may be used by both."""
        return all(a < d and c < b for (a, b), (c, d) in zip(self.box, other.box, strict=True))

    def pull(self, hoisted: HoistedValues, cotangent):
        """Takes a float32 gradient of the value to one of the parameter."""
        if not self.chain:
            return cotangent
        start = jnp.zeros(self.root.aval.shape, jnp.float32)
        _, back = jax.vjp(functools.partial(self._forward, hoisted), start)
        return back(cotangent)[0]

    def _forward(self, hoisted, array):
        for node in self.chain:
            if node.eqn.primitive.name in _SAME:
                continue  # casts would lose precision on the way back
            others = [hoisted[p] if isinstance(p, Hoisted) else p.array() for p in node.parents[1:]]
            stacks = [getattr(parent, "stack", ()) for parent in node.parents]
            run = over_loops(functools.partial(bind, node.eqn), node.stack, stacks)
            array = run(array, *others)[node.output]
        return array


@functools.lru_cache(maxsize=4096)
def path_to(value: Hoisted) -> Path | None:
    """The path to `value`, or None if arithmetic or several parameters made it."""
    if value.kind == "input":
        shape = value.aval.shape
        return Path(value, value, tuple((0, n) for n in shape), tuple(range(len(shape))))
    if value.kind not in ("slice", "unslice", "eqn"):
        return None
    trained = [p for p in value.parents if isinstance(p, Hoisted) and p.param]
    if trained != list(value.parents[:1]):
        return None
    before = path_to(trained[0])
    if before is None:
        return None
    if value.kind != "eqn":
        return dataclasses.replace(before, value=value)
    moved = _move(value, before)
    if moved is None:
        return None
    box, axes = moved
    return Path(before.root, value, box, axes, (*before.chain, value))


def _move(node: Hoisted, path: Path):
    """`(box, axes)` after one equation, or None if it does arithmetic."""
    name, params = node.eqn.primitive.name, node.eqn.params
    parent = node.parents[0]
    skip = len(node.stack)
    if parent.stack != node.stack:
        return None
    box, axes = path.box, path.axes
    if name in _SAME:
        return (box, axes) if is_real(node.aval) else None
    if name == "rev":
        return box, None
    if name == "dynamic_slice":
        return box, None
    if name in ("reshape", "squeeze", "expand_dims", "broadcast_in_dim"):
        if node.aval.size != parent.aval.size:
            return None
        return box, _reshaped(axes, parent.aval.shape, node.aval.shape, skip)
    if name == "transpose":
        if axes is None:
            return box, None
        return box, axes[:skip] + tuple(axes[skip + place] for place in params["permutation"])
    if name == "slice":
        starts, limits = params["start_indices"], params["limit_indices"]
        return _cut(box, axes, list(zip(starts, limits, strict=True)), skip), axes
    if name == "split":
        sizes, axis = params["sizes"], params["axis"]
        start = int(sum(sizes[: node.output]))
        ranges = [(0, n) for n in parent.aval.shape]
        ranges[axis] = (start, start + int(sizes[node.output]))
        return _cut(box, axes, ranges, skip), axes
    return None


def _reshaped(axes, before, after, skip):
    """Axes after a reshape that only adds or drops axes of size one; None for any other."""
    if axes is None or [n for n in before if n != 1] != [n for n in after if n != 1]:
        return None
    kept = iter([axis for axis, n in zip(axes[skip:], before, strict=True) if n != 1])
    return axes[:skip] + tuple(None if n == 1 else next(kept) for n in after)


def _cut(box, axes, ranges, skip):
    if axes is None:
        return box  # a superset is safe
    cut = list(box)
    for axis, (start, stop) in zip(axes[skip:], ranges, strict=True):
        if axis is not None:
            low, high = box[axis]
            # A stride below one entry per step still lies between these two.
            cut[axis] = (low + start, min(high, low + stop))
    return tuple(cut)


def roots_of(value: Hoisted, known: dict | None = None) -> frozenset:
    """The trained parameters that reach `value` differentiably."""
    known = {} if known is None else known
    if value not in known:
        if not value.param:
            known[value] = frozenset()
        elif value.kind == "input":
            known[value] = frozenset((value,))
        else:
            known[value] = frozenset().union(
                *(roots_of(p, known) for p in value.parents if isinstance(p, Hoisted))
            )
    return known[value]
