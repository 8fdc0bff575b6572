"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and their scaling.

A pair of features turns by an angle that grows with the position. Scaling slows the pairs down, so
that a model reads longer texts than it was trained on.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_SCALES = ("mscale", "mscale_all_dim")
_LONGER = "original_max_position_embeddings"
# The fields of each type in config.json: those that it must have, and those that it may.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), (_LONGER,)),
    "yarn": (
        ("factor",),
        (_LONGER, "attention_factor", "beta_fast", "beta_slow", "truncate", *_SCALES),
    ),
}
_SAYS_NOTHING = ("partial_rotary_factor", "rope_type", "type", "rope_theta", "finetuned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """The angles of positions; fields are named as in config.json.

    `rope_type` is "default", "linear" (Chen et al. 2023, arXiv:2306.15595), "dynamic" (bloc97,
    2023), "llama3" (Dubey et al. 2024, arXiv:2407.21783) or "yarn" (Peng et al. 2023,
    arXiv:2309.00071).

    >>> Rope(rope_theta=100.0).frequencies(4, time=1, positions=8)[0].tolist()
    [1.0, 0.10000000149011612]
    """

    rope_type: str = "default"
    rope_theta: float = 10_000.0
    factor: float = 1.0
    original_max_position_embeddings: int = 0  # of the training before; llama3 and yarn need it
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self):
        if self.rope_type not in _FIELDS:
            raise ValueError(
                f"`rope_type` must be one of {', '.join(_FIELDS)}, got {self.rope_type!r}."
            )
        for name in ("rope_theta", "factor", "low_freq_factor", "high_freq_factor"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not (value > 0 and math.isfinite(value)):
                raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")
        longer = self.original_max_position_embeddings
        if _LONGER in _FIELDS[self.rope_type][1] and (type(longer) is not int or longer < 1):
            raise ValueError(f"`{_LONGER}` must be a positive integer, got {longer!r}.")
        if self.rope_type == "llama3" and not self.high_freq_factor > self.low_freq_factor:
            raise ValueError(
                f"`high_freq_factor` must be more than `low_freq_factor`, {self.low_freq_factor}, "
                f"got {self.high_freq_factor}."
            )

    @classmethod
    def from_hf(cls, fields: dict[str, Any]) -> "Rope":
        """The embedding of a config.json, of transformers 5 or older.

        Raises:
          ValueError: An unknown type, or a field that is missing, out of range or not supported.
        """
        given = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
        if not isinstance(given, dict):
            raise ValueError(f"`rope_parameters` must be a JSON object, got {given!r}.")
        kind = str(given.get("rope_type") or given.get("type") or "default")
        # llama.cpp and others write a type with its defaults; None means the default too.
        stored = {name: value for name, value in given.items() if value is not None}
        needed, able = _FIELDS.get(kind, ((), ()))
        if kind in _FIELDS:
            _check_fields(kind, stored, needed, able)
        theta = stored.get("rope_theta") or fields.get("rope_theta") or cls.rope_theta
        own = {name: stored[name] for name in (*needed, *able) if name in stored}
        if _LONGER in able:
            own.setdefault(_LONGER, fields.get("max_position_embeddings"))
        return cls(rope_type=kind, rope_theta=theta, **own)

    def to_hf(self) -> dict[str, Any]:
        """The fields of a config.json."""
        needed, able = _FIELDS[self.rope_type]
        own = {name: getattr(self, name) for name in (*needed, *able)}
        own = {name: value for name, value in own.items() if value is not None}
        scaling = {"rope_type": self.rope_type, **own}
        # transformers before 5 reads the other two names, and knows no `rope_parameters`.
        return {
            "rope_parameters": {**scaling, "rope_theta": self.rope_theta},
            "rope_theta": self.rope_theta,
            "rope_scaling": None if self.rope_type == "default" else scaling,
        }

    def frequencies(self, width: int, time: int, positions: int) -> tuple[np.ndarray, float]:
        """Radians per position of each pair of features, and the factor of cosines and sines.

        Args:
          width: Features of a head.
          time: Length of the sequence; only "dynamic" depends on it.
          positions: Positions of the model.
        """
        theta = self.rope_theta
        if self.rope_type == "dynamic" and time > positions:
            longer = self.factor * time / positions - (self.factor - 1)
            theta *= longer ** (width / (width - 2))
        plain = 1.0 / theta ** (np.arange(0, width, 2, dtype=np.float64) / width)
        if self.rope_type == "linear":
            plain = plain / self.factor
        if self.rope_type == "llama3":
            plain = self._llama3(plain)
        if self.rope_type == "yarn":
            plain = self._yarn(plain, width)
        return plain.astype(np.float32), self._attention() if self.rope_type == "yarn" else 1.0

    def _llama3(self, plain: np.ndarray) -> np.ndarray:
        turns = self.original_max_position_embeddings * plain / (2 * np.pi)  # in the old context
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 - kept) * plain / self.factor + kept * plain

    def _yarn(self, plain: np.ndarray, width: int) -> np.ndarray:
        """Slow pairs are slowed down; those that turn often enough are kept."""
        ends = [
            width
            * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi))
            / (2 * math.log(self.rope_theta))
            for turns in (self.beta_fast or 32, self.beta_slow or 1)
        ]
        low, high = (math.floor(ends[0]), math.ceil(ends[1])) if self.truncate else ends
        low, high = max(low, 0), min(high, width - 1)
        ramp = (np.arange(width // 2) - low) / (high - low if high != low else 0.001)
        slowed = np.clip(ramp, 0.0, 1.0)
        return slowed * plain / self.factor + (1 - slowed) * plain

    def _attention(self) -> float:
        """YaRN's temperature of the attention, as the factor of queries and of keys."""
        if self.attention_factor is not None:
            return float(self.attention_factor)
        grown = lambda by: 1.0 if self.factor <= 1 else 0.1 * by * math.log(self.factor) + 1.0  # noqa: E731
        if self.mscale and self.mscale_all_dim:
            return grown(self.mscale) / grown(self.mscale_all_dim)
        return grown(1.0)


def _check_fields(kind: str, stored: dict[str, Any], needed, able) -> None:
    for name in needed:
        if name not in stored:
            raise ValueError(f"`{name}` of `rope_parameters` is missing, which {kind} needs.")
    unknown = set(stored) - {*needed, *able, *_SAYS_NOTHING}
    if kind == "default":
        unknown -= {"factor", _LONGER}  # they mean nothing without a scaling
    if unknown or stored.get("partial_rotary_factor", 1) != 1:
        name = min(unknown, default="partial_rotary_factor")
        raise ValueError(
            f"`{name}` of `rope_parameters` is not supported for {kind}, got {stored[name]!r}."
        )


def rotation(
    rope: Rope, width: int, at: Int[Array, " time"], positions: int, *, length: int
) -> tuple[Float[Array, "time pair"], Float[Array, "time pair"]]:
    """Cosines and sines of the angles at positions `at`; arguments as `Rope.frequencies`."""
    frequencies, factor = rope.frequencies(width, length, positions)
    angles = at.astype(jnp.float32)[:, None] * jnp.asarray(frequencies)[None, :]
    scale = np.float32(factor)
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def rotate(
    x: Float[Array, "time head width"],
    cosines: Float[Array, "time pair"],
    sines: Float[Array, "time pair"],
) -> Float[Array, "time head width"]:
    """Turns each pair of features; a pair is (i, i + width / 2), as in transformers' files.

    >>> rotate(jnp.array([[[1.0, 0.0]]]), jnp.array([[0.0]]), jnp.array([[1.0]])).tolist()
    [[[0.0, 1.0]]]
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, -1)
    cosines, sines = cosines[:, None], sines[:, None]
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return jnp.concatenate(turned, -1).astype(x.dtype)
