"""Groups the uses of parameters into clusters whose norms add, and picks a rule for each."""

import dataclasses

from trustml.bookkeeping import cost
from trustml.bookkeeping.factors import Shape
from trustml.bookkeeping.paths import Path, path_to, roots_of
from trustml.bookkeeping.shapes import factor_shape
from trustml.bookkeeping.values import Hoisted, Site, size

# Their own vjp is a product and a reduction to the parameter's size: no rule could do better.
_ELEMENTWISE = {"identity", "add", "sub", "add_any", "mul", "div", "max", "min", "pow", "select_n"}
_ELEMENTWISE |= {"concatenate", "stack", "dynamic_update_slice", "convert_element_type", "neg"}


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """One site that reads one hoisted value."""

    site: Site
    value: Hoisted
    places: tuple[int, ...]  # inputs of the site that hold it
    path: Path | None
    factor: Shape | None


@dataclasses.dataclass(frozen=True, eq=False)
class Cluster:
    """Uses whose gradients meet in the same entries of the same parameters.

    Rules: `gram` (norms from Gram products), `materialise` (per-unit gradients of one parameter,
    kept and reused), `joint` (per-unit gradients of several parameters, or through arithmetic).
    """

    rule: str
    roots: tuple[Hoisted, ...]
    uses: tuple[Use, ...]
    seconds: float  # estimated extra time over the plain gradient

    @property
    def fallback(self) -> bool:
        """Whether some use is covered by no rule and differentiated one unit at a time."""
        return any(use.factor is None and use.site.name not in _ELEMENTWISE for use in self.uses)


def clusters_of(sites, batch: int, rules=None) -> list[Cluster]:
    """Splits all uses at `sites` into clusters.

    >>> import jax.numpy as jnp
    >>> from trustml.bookkeeping.trace import read_loss
    >>> loss = lambda w, frozen, x: (jnp.sum(jnp.tanh(x @ w)), None)
    >>> traced = read_loss(loss, jnp.zeros((4, 3)), (), (jnp.ones((5, 4)),))
    >>> [cluster.rule for cluster in clusters_of(traced.sites, batch=8, rules=("gram",))]
    ['gram']

    Args:
      sites: The active sites of a reading.
      batch: Units, for the cost model.
      rules: By default the cheaper rule of each parameter by the cost model. `("gram",)`: Gram
        products wherever they apply; `("fitting",)`: per-unit gradients wherever they take no more
        memory than what they are made of; `("materialise",)`: everywhere.

    Returns:
      Clusters; a parameter may have several, over disjoint entries.
    """
    uses = [use for site in sites for use in _uses(site)]
    entangled = _entangled(uses)
    clusters: list[Cluster] = []
    for roots in entangled:
        members = tuple(use for use in uses if roots & roots_of(use.value))
        clusters.append(_cluster("joint", tuple(sorted(roots, key=_order)), members, batch))
    mixed = frozenset().union(*entangled)
    by_root: dict[Hoisted, list[Use]] = {}
    for use in uses:
        if not roots_of(use.value) & mixed and use.path is not None:
            by_root.setdefault(use.path.root, []).append(use)
    for root, sharing in by_root.items():
        for group in _by_overlap(sharing):
            clusters.append(_choose(root, tuple(group), batch, rules))
    return clusters


def _order(root: Hoisted) -> int:
    return root.index


def _uses(site: Site):
    values: dict[Hoisted, list[int]] = {}
    for place in site.params:
        values.setdefault(site.inputs[place], []).append(place)
    for value, places in values.items():
        factor = factor_shape(site, places[0]) if len(places) == 1 else None
        yield Use(site, value, tuple(places), path_to(value), factor)


def _entangled(uses) -> list[frozenset]:
    """Sets of parameters that arithmetic ties together, or that arithmetic alone reaches."""
    groups: list[frozenset] = []
    for use in uses:
        if use.path is not None:
            continue
        merged = roots_of(use.value)
        apart = []
        for group in groups:
            if group & merged:
                merged |= group
            else:
                apart.append(group)
        groups = [*apart, merged]
    return groups


def _by_overlap(uses) -> list[list[Use]]:
    groups: list[list[Use]] = []
    for use in uses:
        touching = [g for g in groups if any(use.path.overlaps(other.path) for other in g)]
        groups = [g for g in groups if g not in touching]
        groups.append([other for g in touching for other in g] + [use])
    return groups


def _choose(root: Hoisted, uses: tuple[Use, ...], batch: int, rules) -> Cluster:
    keep_all = _cluster("materialise", (root,), uses, batch)
    if not tied_layout(uses):
        return keep_all
    gram = _cluster("gram", (root,), uses, batch)
    small = all(_fits(use.factor) for use in uses)
    if rules is not None:
        return gram if "gram" in rules or ("fitting" in rules and not small) else keep_all
    return min(gram, keep_all, key=lambda c: c.seconds) if small else gram


def _fits(shape: Shape) -> bool:
    return cost.fits(shape.count(shape.shared), shape.count(shape.row), shape.count(shape.col))


def tied_layout(uses):
    """Row and column labels per use under which Gram products of all uses agree, or None."""
    if any(use.factor is None for use in uses):
        return None
    if len(uses) == 1:
        return [(uses[0].factor.row, uses[0].factor.col, False)]
    layouts = [_axes_of(use) for use in uses]
    if any(layout is None for layout in layouts):
        return None
    lookups = [layout for layout, use in zip(layouts, uses, strict=True) if use.factor.lookup]
    target = (lookups or layouts)[0]
    result = []
    for layout, use in zip(layouts, uses, strict=True):
        keep, row, col = layout
        if keep.keys() != target[0].keys() or list(keep) != list(target[0]):
            return None
        if use.path.box != uses[0].path.box:
            return None
        if row.keys() == target[1].keys() and col.keys() == target[2].keys():
            labels = (_sorted(row, target[1]), _sorted(col, target[2]), False)
        elif row.keys() == target[2].keys() and col.keys() == target[1].keys():
            if use.factor.lookup:
                return None
            labels = (_sorted(row, target[2]), _sorted(col, target[1]), True)
        else:
            return None
        result.append(labels)
    return result


def _sorted(ours, theirs):
    return tuple(ours[axis] for axis in theirs)


def _axes_of(use: Use):
    """`(keep, row, col)`, each from parameter axis to label; None if a reshape mixed axes."""
    shape, path = use.factor, use.path
    if shape.tie_axes is None or path.axes is None:
        return None
    found = []
    for labels, axes in zip((shape.keep, shape.row, shape.col), shape.tie_axes, strict=True):
        named = {}
        for label, axis in zip(labels, axes, strict=True):
            if path.axes[axis] is None:
                if shape.sizes[label] != 1:
                    return None
                continue
            named[path.axes[axis]] = label
        if len(named) != len(labels):
            return None
        found.append(named)
    return found


def _cluster(rule, roots, uses, batch) -> Cluster:
    seconds = 0.0
    if rule == "gram":
        shapes = [use.factor for use in uses]
        times = sum(shape.count(shape.shared) for shape in shapes)
        first = shapes[0]
        seconds = cost.gram_seconds(
            batch,
            first.count(first.keep),
            times,
            first.count(first.row),
            first.count(first.col),
            lookup=all(shape.lookup for shape in shapes),
        )
    else:
        for use in uses:
            seconds += _materialise_seconds(use, batch)
    return Cluster(rule, tuple(roots), tuple(uses), seconds)


def _materialise_seconds(use: Use, batch) -> float:
    shape = use.factor
    if shape is None:
        entries = size(use.value.aval.shape) * size([loop.length for loop in use.value.stack])
        return 12 * batch * entries / cost.machine().bytes
    return cost.materialise_seconds(
        batch,
        shape.count(shape.keep),
        shape.count(shape.shared),
        shape.count(shape.row),
        shape.count(shape.col),
        shape.lookup,
    )
