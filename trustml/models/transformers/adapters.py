"""Predicates on names that choose the trained leaves of a pretrained network, for `trainable=`.

A name is the path of a leaf with slashes, such as `encoder/layer_3/attention/query/kernel`. A
predicate is true for the leaves that are trained. `head` is a regular expression for leaves that
are trained too because they start from random weights.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Trainable = Callable[[str], bool]

_LORA = re.compile(r"(^|/)lora_[ab]$")
_LAYER = re.compile(r"(?:^|/)layer_(\d+)/")
_STACKED = re.compile(r"(^|/)layers/")


def matching(pattern: str) -> Trainable:
    """True for names that contain a match of the regular expression.

    >>> matching("attention/(query|value)")("layer_0/attention/query/kernel")
    True

    Raises:
      ValueError: `pattern` is not a regular expression.
    """
    compiled = _compiled("pattern", pattern)
    return lambda name: compiled.search(name) is not None


def all_but(pattern: str) -> Trainable:
    """True for names that contain no match of the regular expression.

    >>> all_but("embeddings")("embeddings/word/embedding")
    False
    """
    frozen = matching(pattern)
    return lambda name: not frozen(name)


def bitfit(*, head: str | None = None) -> Trainable:
    """True for biases, also of layer norms, and for the head (Ben Zaken et al., 2022).

    >>> bitfit(head="^classifier")("layer_0/output/bias")
    True
    """
    return _or_head(lambda name: name.rpartition("/")[2] == "bias", head)


def lora_only(*, head: str | None = None) -> Trainable:
    """True for the low-rank factors `lora_a` and `lora_b`, and for the head (Hu et al., 2022).

    >>> lora_only()("layer_0/attention/query/lora_a")
    True
    """
    return _or_head(lambda name: _LORA.search(name) is not None, head)


def last_layers(count: int, num_layers: int, *, head: str | None = None) -> Trainable:
    """True for the last `count` of `num_layers` layers, named `layer_<i>`, and for the head.

    With an encoder and a decoder of `num_layers` each, it is true for the last layers of both.

    >>> last_layers(2, 12)("encoder/layer_10/output/kernel")
    True

    Raises:
      ValueError: A number out of range. The predicate raises it for a name of stacked `layers`,
        where one leaf holds all layers, and for a layer number beyond `num_layers`.
    """
    if num_layers < 1:
        raise ValueError(f"`num_layers` must be positive, got {num_layers!r}.")
    if not 0 <= count <= num_layers:
        raise ValueError(f"`count` must be from 0 to `num_layers` = {num_layers}, got {count!r}.")

    def wanted(name: str) -> bool:
        if _STACKED.search(name):
            raise ValueError(
                f"`last_layers` needs a leaf for each layer, got the stacked {name!r}: build the "
                f"network without `scan`."
            )
        layer = _LAYER.search(name)
        if layer is None:
            return False
        number = int(layer[1])
        if number >= num_layers:
            raise ValueError(f"`num_layers` is {num_layers}, but the network has {name!r}.")
        return number >= num_layers - count

    return _or_head(wanted, head)


def count_trainable(params: Any, trainable: Trainable | None = None) -> tuple[int, int]:
    """Number of trained parameters, and of all; None trains every floating-point leaf.

    >>> count_trainable({"up": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}, bitfit())
    (3, 9)
    """
    trained = total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        size = int(jnp.size(leaf))
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        floating = jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.floating)
        trained += size * bool(floating and (trainable is None or trainable(name)))
        total += size
    return trained, total


def _or_head(wanted: Trainable, head: str | None) -> Trainable:
    if head is None:
        return wanted
    trained = _compiled("head", head)
    return lambda name: trained.search(name) is not None or wanted(name)


def _compiled(argument: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`{argument}` must be a regular expression, got {pattern!r}: {error}."
        ) from None
