"""Vectors of texts by a pretrained encoder: sentence-transformers folders, and plain encoders.

They are computed once, without gradients, for a head that is trained on them. A text's vector
depends on that text alone, so a bound on what one row does to a head holds for its text too. The
vectors of private texts are private: they can give the texts away almost word by word (Morris et
al. 2023, arXiv:2310.06816).
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from trustml.data.buckets import length_batches
from trustml.data.tokens import padded
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.loading import read_body
from trustml.models.pretrained.pooling import Pooling, pooled, pooled_by, read_modules
from trustml.models.pretrained.preprocessing import positions, read_preprocessing
from trustml.models.tasks.tokens import first_tokens
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.bert import Bert, BertEmbeddings, EncoderLayer
from trustml.models.transformers.config import ModelConfig

Progress = Callable[[int, int], None]  # rows done, rows in all


class TokenStates(NamedTuple):
    """States of the tokens of many rows, one row after the other; private if the rows are.

    Attributes:
      values: float32 [token, width].
      row: Row of each token.
      word: Word of each token in its row; -1 for special tokens.
      first: Whether the token is the first of its word.
    """

    values: Float[np.ndarray, "token width"]
    row: Int[np.ndarray, " token"]
    word: Int[np.ndarray, " token"]
    first: Bool[np.ndarray, " token"]


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A frozen encoder with its tokenizer; `from_folder` makes one.

    Attributes:
      config: Sizes of the encoder.
      module: Its network, on one text.
      params: Weights: of the encoder, and of each step after the pooling.
      pooling: What follows the encoder.
      tokenizer: Its tokenizer.
      max_length: Tokens of a text beyond which it is cut, special ones counted.
      prompt: Text that goes before every text.
    """

    config: ModelConfig
    module: Bert
    params: tuple[Any, tuple[dict[str, Any], ...]]
    pooling: Pooling
    tokenizer: TextTokenizer
    max_length: int
    prompt: str = ""

    @classmethod
    def from_folder(
        cls, folder_or_name: str | Path, *, download: bool = False
    ) -> "SentenceEncoder":
        """The encoder of a folder, with the vectors that sentence-transformers gives.

        A folder without modules.json is a plain encoder of Hugging Face's transformers; its
        vectors are the means over the tokens of the last states.

        >>> SentenceEncoder.from_folder("./no-such-folder")
        Traceback (most recent call last):
            ...
        ValueError: `folder_or_name` must be a folder that exists, got './no-such-folder'.

        Args:
          folder_or_name: A folder, or a name; see `find_model`.
          download: Whether to download a name that the cache lacks.

        Raises:
          ValueError: A file is missing or broken, or holds something that is not supported.
        """
        folder = find_model(folder_or_name, download=download)
        modules = read_modules(folder)
        body = read_body(modules.encoder)
        _check_steps(folder, body.config, modules.pooling, modules.params)
        return cls(
            config=body.config,
            module=body.module,
            params=(body.params, modules.params),
            pooling=modules.pooling,
            **read_preprocessing(folder, modules.encoder, body)._asdict(),
        )

    @property
    def width(self) -> int:
        """Numbers in a vector of `embed`."""
        mask = jax.ShapeDtypeStruct((1,), bool)
        states = jax.ShapeDtypeStruct((1, self.config.hidden_size), jnp.float32)
        shape = functools.partial(pooled, self.pooling)
        return jax.eval_shape(shape, self.params[1], states, mask).shape[0]

    def embed(
        self,
        texts: Sequence[str],
        *,
        layers: Sequence[int] | None = None,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "row *layer width"]:
        """A vector for each text, float32 [row, width]; private if the texts are.

        Args:
          texts: Texts.
          layers: Layers whose states are averaged over the tokens, instead of the folder's own
            pooling: 0 for the embeddings, up to the number of layers for the last. The result is
            float32 [row, layer, width].
          max_length: Tokens beyond which a text is cut; by default that of the folder.
          progress: Called with the rows done and all rows.

        Raises:
          ValueError: There is no such layer, or `max_length` is not one of the model.
        """
        chosen = None if layers is None else self._layers(layers)
        length = self._length(max_length)
        ids = self.tokenizer.encode_ids(texts, length, self.prompt)
        tail = (self.width,) if chosen is None else (len(chosen), self.config.hidden_size)
        out = np.zeros((len(texts), *tail), np.float32)
        run = functools.partial(_vectors, self.module, self.pooling, chosen, self.params)
        for rows, vectors in _computed(run, ids, length, progress):
            out[rows] = vectors[: len(rows)]
        return out

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that a vector depends on beside its text."""
        whole = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            whole.update(np.ascontiguousarray(leaf).data.cast("B"))
        network = (jax.tree.structure(self.params), self.config, self.module.options, self.pooling)
        reading, cut = self.tokenizer.model, self.tokenizer.truncation_side
        texts = (self.prompt, cut, self.max_length, reading.encode_special_tokens)
        whole.update(repr((*network, *texts, reading.to_str())).encode("utf-8", "surrogatepass"))
        return whole.hexdigest()

    def states(
        self,
        rows: Sequence[str] | Sequence[Sequence[str]],
        *,
        layer: int,
        max_length: int | None = None,
        first_only: bool = False,
        progress: Progress | None = None,
    ) -> TokenStates:
        """States of every token after one layer; private if the rows are.

        Args:
          rows: Texts, or texts in words.
          layer: 0 for the embeddings, up to the number of layers for the last.
          max_length: Tokens beyond which a row is cut; by default that of the folder.
          first_only: Whether to keep the first token of each word alone, as taggers read them.
          progress: Called with the rows done and all rows.

        Raises:
          ValueError: There is no such layer, or `max_length` is not one of the model.
        """
        chosen, length = self._layers([layer]), self._length(max_length)
        encoded = self.tokenizer.encode_batch(rows, length)
        firsts = [np.array(first_tokens(one.words), bool) for one in encoded]
        kept = [first if first_only else np.ones_like(first) for first in firsts]
        ends = np.cumsum([int(keep.sum()) for keep in kept], dtype=np.int64)
        values = np.empty((int(ends[-1]) if len(ends) else 0, self.config.hidden_size), np.float32)
        run = functools.partial(_token_states, self.module, chosen[0], self.params[0])
        for numbers, states in _computed(run, [one.ids for one in encoded], length, progress):
            for number, own in zip(numbers, states, strict=False):
                keep = kept[number]
                values[ends[number] - keep.sum() : ends[number]] = own[: len(keep)][keep]
        words = [[-1 if word is None else word for word in one.words] for one in encoded]
        whole = lambda parts, kind: np.concatenate([np.zeros(0, kind), *parts]).astype(kind)  # noqa: E731
        return TokenStates(
            values,
            np.repeat(np.arange(len(rows)), np.diff(ends, prepend=0)),
            whole([np.array(word, int)[keep] for word, keep in zip(words, kept, strict=True)], int),
            whole([first[keep] for first, keep in zip(firsts, kept, strict=True)], bool),
        )

    def layer_means(
        self, unit: dict[str, Any], layers: Sequence[int]
    ) -> Float[jax.Array, "layer width"]:
        """The means of `embed` for one text, by JAX alone: for export.

        Args:
          unit: `ids` int32 [time] and `mask` bool [time].
          layers: As `embed` takes them.
        """
        return _means(self.module, self.params[0], unit, self._layers(layers))

    def _layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        most = self.config.num_layers
        for layer in layers:
            if not (isinstance(layer, int) and 0 <= layer <= most):
                raise ValueError(f"`layers` must be integers from 0 to {most}, got {layer!r}.")
        return tuple(layers)

    def _length(self, length: int | None) -> int:
        if length is None:
            return self.max_length
        most = positions(self.config)
        if not (isinstance(length, int) and 0 < length <= most):
            raise ValueError(f"`max_length` must be an integer up to {most}, got {length!r}.")
        return length


def _computed(
    run: Callable, ids: Sequence[Sequence[int] | np.ndarray], length: int, progress: Progress | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of each batch, with what `run` gives for them and for the padding behind them."""
    lengths = np.array([len(one) for one in ids], np.int64)
    waiting: list[tuple[np.ndarray, Any]] = []
    done = 0
    for batch in [*length_batches(lengths, length), None]:
        if batch is not None:
            own = [*(ids[row] for row in batch.rows), *[()] * (batch.size - len(batch.rows))]
            mask = np.arange(batch.length) < np.array([len(one) for one in own])[:, None]
            waiting.append((batch.rows, run({"ids": padded(own, batch.length), "mask": mask})))
        # One batch is computed while the next is prepared.
        while len(waiting) > (1 if batch is not None else 0):
            rows, result = waiting.pop(0)
            yield rows, np.asarray(result)
            done += len(rows)
            if progress is not None:
                progress(done, len(ids))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _vectors(module: Bert, pooling: Pooling, layers, params, units):
    body, steps = params

    def one(unit):
        if layers is None:
            states, _ = module.apply({"params": body}, unit)
            return pooled(pooling, steps, states, unit["mask"])
        return _means(module, body, unit, layers)

    return jax.vmap(one)(units)


def _means(module: Bert, params, unit, layers: tuple[int, ...]):
    seen = _hidden(module, params, unit, layers)
    return jnp.stack([pooled_by("mean", states, unit["mask"]) for states in seen])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _token_states(module: Bert, layer: int, params, units):
    return jax.vmap(lambda unit: _hidden(module, params, unit, (layer,))[0])(units)


def _hidden(module: Bert, params, unit, layers: tuple[int, ...]) -> list[Any]:
    """States after some layers; XLA leaves out the layers behind the last of them."""
    _, seen = module.apply(
        {"params": params},
        unit,
        capture_intermediates=lambda part, _: isinstance(part, EncoderLayer | BertEmbeddings),
        mutable=["intermediates"],
    )
    found = seen["intermediates"]
    return [
        found["encoder"][f"layer_{layer - 1}"]["__call__"][0][0]
        if layer
        else found["embeddings"]["__call__"][0]
        for layer in layers
    ]


def _check_steps(folder: Path, config: ModelConfig, pooling: Pooling, params) -> None:
    width = config.hidden_size * len(pooling.modes)
    for own in params:
        if "kernel" in own and own["kernel"].shape[0] != width:
            raise ValueError(
                f"{folder}: a Dense module must take the {width} numbers before it, got "
                f"{own['kernel'].shape[0]}; take all files of one model."
            )
        width = own["kernel"].shape[1] if "kernel" in own else width
