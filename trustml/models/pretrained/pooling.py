"""What sentence-transformers computes after an encoder: pooling, dense layers, normalisation.

Its modules are listed in modules.json of a folder (Reimers and Gurevych 2019, arXiv:1908.10084).
"""

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from trustml.models.json_files import read_json
from trustml.models.pretrained.checkpoints import Tensors
from trustml.models.transformers.activations import ACTIVATIONS

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_MODULES = "modules.json"
# The older spelling: one flag a mode, in the order in which their vectors are joined.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Classes of torch.nn by our name of the function.
_TORCH = {
    "Identity": "linear",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}
_LEAST_NORM = 1e-12  # as torch's normalize


class Step(NamedTuple):
    """A step after pooling: a dense layer with an activation, or a division by the norm."""

    activation: str | None = None  # one of `ACTIVATIONS`; None divides by the norm
    residual: bool = False


class Pooling(NamedTuple):
    """From states of tokens to one vector: pooled vectors, joined, and further steps."""

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()


class Modules(NamedTuple):
    """The modules of a folder.

    Attributes:
      encoder: Folder of the encoder.
      pooling: What follows it.
      params: Weights of each dense step, {} of others.
    """

    encoder: Path
    pooling: Pooling
    params: tuple[dict[str, Any], ...]


def read_modules(folder: Path) -> Modules:
    """The modules of a sentence-transformers folder; the mean of any other encoder's states.

    Raises:
      ValueError: A file is broken, or a module is not supported.
    """
    if not (folder / _MODULES).exists():
        return Modules(folder, Pooling(), ())
    listed = [(_kind(entry, folder), entry) for entry in read_json(folder / _MODULES, list)]
    kinds = [kind for kind, _ in listed]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{folder / _MODULES} must list a Transformer and its Pooling first, got "
            f"{', '.join(kinds) or 'nothing'}."
        )
    folders = [folder / PurePosixPath(str(entry.get("path", ""))) for _, entry in listed]
    steps = [_step(kind, each) for kind, each in zip(kinds[2:], folders[2:], strict=True)]
    pooling = Pooling(_modes(folders[1]), tuple(step for step, _ in steps))
    return Modules(folders[0], pooling, tuple(params for _, params in steps))


def _kind(entry: Any, folder: Path) -> str:
    name = str(entry.get("type", "")) if isinstance(entry, dict) else str(entry)
    return name.rpartition(".")[2]


def _modes(folder: Path) -> tuple[str, ...]:
    path = folder / "config.json"
    fields = read_json(path)
    if not fields.get("include_prompt", True):
        raise ValueError(f"{path}: `include_prompt` must be true, got false: not supported.")
    given = fields.get("pooling_mode")
    if given is None:
        given = [mode for flag, mode in _FLAGS.items() if fields.get(flag)] or ["mean"]
    modes = (given,) if isinstance(given, str) else tuple(given)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise ValueError(
            f"{path}: `pooling_mode` must be of {', '.join(MODES)}, got {unknown[0]!r}."
        )
    return modes


def _step(kind: str, folder: Path) -> tuple[Step, dict[str, Any]]:
    if kind == "Normalize":
        return Step(), {}
    if kind != "Dense":
        raise ValueError(
            f"{folder.parent / _MODULES} must list Normalize or Dense after the Pooling, got "
            f"{kind}: not supported."
        )
    path = folder / "config.json"
    fields = read_json(path)
    torch = str(fields.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = _TORCH.get(torch.rpartition(".")[2])
    if name is None:
        raise ValueError(
            f"{path}: `activation_function` must be one of {', '.join(_TORCH)}, got {torch}."
        )
    for key in ("module_input_name", "module_output_name"):
        if fields.get(key) not in (None, "sentence_embedding"):
            raise ValueError(f"{path}: `{key}` must be sentence_embedding, got {fields[key]!r}.")
    return Step(name, bool(fields.get("use_residual"))), _dense(folder, fields)


def _dense(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    source, params = Tensors(folder), {}
    sizes = (fields.get("out_features"), fields.get("in_features"))
    for name, ours in (("linear.weight", "kernel"), ("residual.weight", "residual")):
        if (tensor := source.read([name])) is not None:
            if tensor[1].shape != sizes:
                raise ValueError(
                    f"{folder} must hold `{name}` in the shape {list(sizes)} of config.json, got "
                    f"{list(tensor[1].shape)}."
                )
            params[ours] = jnp.asarray(tensor[1].T)
    if (tensor := source.read(["linear.bias"])) is not None:
        params["bias"] = jnp.asarray(tensor[1])
    if "kernel" not in params:
        raise ValueError(f"{folder} must hold the tensor `linear.weight`, which is missing.")
    return params


def pooled(
    pooling: Pooling,
    params: tuple[dict[str, Any], ...],
    states: Float[Array, "time features"],
    mask: Bool[Array, " time"],
) -> Float[Array, " width"]:
    """One vector from the states of a text's tokens, which come first in `mask`."""
    vector = jnp.concatenate([pooled_by(mode, states, mask) for mode in pooling.modes])
    for step, own in zip(pooling.steps, params, strict=True):
        vector = _applied(step, own, vector)
    return vector


def pooled_by(
    mode: str, states: Float[Array, "time features"], mask: Bool[Array, " time"]
) -> Float[Array, " features"]:
    """One vector by one mode of sentence-transformers; see `MODES`.

    >>> states = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    >>> pooled_by("max", states, jnp.ones(2, bool)).tolist()
    [3.0, 2.0]
    """
    keep = mask.astype(states.dtype)
    if mode == "cls":
        return states[0]
    if mode == "lasttoken":
        last = jnp.maximum(mask.sum(dtype=jnp.int32) - 1, 0)
        return states[last]
    if mode == "max":
        return jnp.where(mask[:, None], states, -jnp.inf).max(0)
    if mode == "weightedmean":
        keep = keep * jnp.arange(1, mask.shape[0] + 1, dtype=states.dtype)
    total, weight = keep @ states, jnp.maximum(keep.sum(), 1e-9)
    return total / (jnp.sqrt(weight) if mode == "mean_sqrt_len_tokens" else weight)


def _applied(step: Step, params: dict[str, Any], vector):
    if step.activation is None:
        return vector / jnp.maximum(jnp.linalg.norm(vector), _LEAST_NORM)
    out = vector @ params["kernel"] + params.get("bias", jnp.zeros((), vector.dtype))
    out = ACTIVATIONS[step.activation](out)
    if not step.residual:
        return out
    return out + (vector @ params["residual"] if "residual" in params else vector)
