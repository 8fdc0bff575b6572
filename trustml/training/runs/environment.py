"""The conditions under which a repeated step is the same release."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from trustml.clipping.trainable import path_name
from trustml.training.sources import RowSource

_CHUNK = 1 << 24


def versions() -> dict[str, str]:
    """Versions of the libraries and of Python, and the devices."""
    names = ("jax", "jaxlib", "flax", "optax", "dp-accounting", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    device = jax.devices()[0]
    return {
        **found,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": str(jax.device_count()),
    }


def conditions(program: str) -> dict[str, str]:
    """Everything but state and data that may change the bits of a step.

    Args:
      program: Hash of the step's program, which covers loss, optimizer, bound, noise, strategy,
        micro-batch and mesh.

    Raises:
      ValueError: Several processes train together: one cannot speak for the others' machines.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"`out` must be None where {jax.process_count()} processes train together: no ledger "
            "is kept for them. Train in one process, or save `params` of the result."
        )
    known = versions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "program": program,
        "trustml": _version(),
        **{name: known[name] for name in ("jax", "jaxlib", "numpy", "device", "devices")},
        "platform": " ".join(jax.devices()[0].client.platform_version.split()),
        "processor": _processor(),
        "cores": str(cores),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def _version() -> str:
    try:
        return importlib.metadata.version("trustml-jax")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """A hash of the processor's model and features: other vector units round otherwise."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    wanted = ("model name", "flags", "Features", "CPU part")
    text = "\n".join(sorted({line for line in lines if line.startswith(wanted)})) or lines[0]
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def machine() -> str:
    """A hash of this machine's name: it tells machines apart and says no more of them."""
    try:
        name = Path("/etc/machine-id").read_text().strip()
    except OSError:
        name = ""
    text = f"{name or platform.node()} {platform.machine()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The conditions that are not the same, in words."""
    names = {"program": "the training step (loss, optimizer, strategy, micro-batch or mesh)"}
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, "unknown"), new.get(name, "unknown")
        if before != after:
            values = "" if name == "program" else f" ({before or 'none'} before, {after} now)"
            found.append(f"{names.get(name, name)}{values}")
    return found


def data_fingerprint(units: PyTree | RowSource) -> str:
    """SHA-256 of names, types, shapes and bytes of all leaves, or what a source says.

    Private in one respect: who guesses the whole data can confirm the guess.
    """
    if isinstance(units, RowSource) and units.fingerprint is not None:
        return units.fingerprint
    shapes = units.shapes if isinstance(units, RowSource) else units
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    digests = [hashlib.sha256() for _ in leaves]
    for place, part in _parts(units):
        digests[place].update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    total = hashlib.sha256(b"trustml data, version 2\x00")
    for (path, leaf), digest in zip(leaves, digests, strict=True):
        kind = np.dtype(leaf.dtype).str
        total.update(f"{path_name(path)} {kind} {leaf.shape}\n".encode() + digest.digest())
    return total.hexdigest()


def _parts(units):
    """`(place of a leaf, some of its rows)`, of each leaf in order."""
    if isinstance(units, RowSource):
        for chunk in units.chunks():
            yield from enumerate(jax.tree.leaves(chunk))
        return
    for place, leaf in enumerate(jax.tree.leaves(units)):
        array = np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf
        rows = max(1, _CHUNK // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            yield place, array[start : start + rows]


def flat_names(tree: PyTree) -> dict[str, Any]:
    """Leaves by name, such as `params/encoder/kernel`."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
