"""Which leaves of a pretrained network are trained, by the words of `--trainable`."""

import re

from trustml.models.transformers.adapters import Trainable, bitfit, last_layers, lora_only, matching
from trustml.models.transformers.layers import Lora

OF_ALL_LAYERS = ("all", "lora", "bitfit")
LORA_RANK = 8
_HEAD = "^(head|pooler)/"  # always trained: it may start from random weights
_LAST = re.compile(r"last-(\d+)")


def trained_leaves(choice: str, layers: int, decoder_layers: int = 0) -> Trainable | None:
    """The leaves that `choice` trains; None for all.

    >>> trained_leaves("last-1", 6)("encoder/layer_5/up/kernel")
    True

    Args:
      choice: "all", "lora", "bitfit", "last-K", or a pattern of names.
      layers: Layers of the network, or of its encoder.
      decoder_layers: Those of its decoder beside an encoder.

    Raises:
      ValueError: There are fewer layers, or the pattern is none.
    """
    last = _LAST.fullmatch(choice)
    if choice == "all":
        return None
    if choice == "lora":
        return lora_only(head=_HEAD)
    if choice == "bitfit":
        return bitfit(head=_HEAD)
    if last:
        return _last_of_each(int(last[1]), layers, decoder_layers)
    chosen, head = matching(choice), matching(_HEAD)
    return lambda name: head(name) or chosen(name)


def check_trained(choice: str, names: list[str]) -> None:
    """Refuses a pattern without any match: a typing error would train the head alone.

    Raises:
      ValueError: It matches none of `names`.
    """
    named = choice in OF_ALL_LAYERS or _LAST.fullmatch(choice)
    if not named and not any(map(matching(choice), names)):
        raise ValueError(
            "must be all, lora, bitfit, last-K, or a pattern that matches the name of a "
            f"parameter, such as {names[0]}."
        )


def adapters_of(choice: str, rank: int | None = LORA_RANK) -> Lora | None:
    """The adapters that `choice` trains, if any."""
    return Lora(rank=rank or LORA_RANK) if choice == "lora" else None


def _last_of_each(count: int, layers: int, others: int) -> Trainable:
    """The last layers of the encoder and, if there is one, of the decoder."""
    if not others:
        return last_layers(count, layers, head=_HEAD)
    first = last_layers(min(count, layers), layers, head=_HEAD)
    second = last_layers(min(count, others), others, head=_HEAD)
    return lambda name: (second if name.startswith("decoder/") else first)(name)
