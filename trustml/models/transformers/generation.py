"""Generation with decoders and BART: a batch of prompts in one loop with a key-value cache.

Sequences of a batch are independent, also their draws: row and position determine the key.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trustml.models.transformers.architectures import DECODERS
from trustml.models.transformers.bart import Bart
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import make_decoder, make_head
from trustml.models.transformers.layers import Options
from trustml.models.transformers.sampling_rules import SamplingRule

_ROUND = 16  # prompts are padded to a multiple of it: otherwise each length compiles a program


@dataclasses.dataclass(frozen=True)
class Writer:
    """One sequence of a language model, token by token.

    A cache is a tree of arrays; a position counts the decoder's tokens from 0.

    Attributes:
      config: Configuration of a decoder, such as GPT-2, or of BART.
      options: Options of the network.
      capacity: Number of positions in the cache of the decoder.
    """

    config: ModelConfig
    options: Options
    capacity: int

    def start(
        self, params: Any, ids: Int[Array, " time"], length: Int[Array, ""]
    ) -> tuple[Float[Array, " token"], Any, Int[Array, ""]]:
        """Scores of the first new token, after one pass over the prompt.

        Args:
          params: Parameters of the network with the head "lm" or "seq2seq".
          ids: The prompt, then padding.
          length: Number of tokens of the prompt.

        Returns:
          Scores of the first new token, the cache, and the position of that token.
        """
        if self.config.decoder_only:
            states, cache = self._read(params, {}, ids, jnp.int32(0))
            last = jax.lax.dynamic_slice_in_dim(states, length - 1, 1)
            return self._scores(params, last), cache, length
        mask = jnp.arange(ids.shape[0]) < length
        own = {"params": _body(params)}
        unit = {"ids": ids, "mask": mask}
        memory = Bart(self.config, self.options).apply(own, unit, method="encode")
        first = jnp.asarray(self.config.decoder_start_id, jnp.int32)
        cache = {"memory": memory, "mask": mask, "layers": {}}
        scores, cache = self.step(params, cache, first, jnp.int32(0))
        return scores, cache, jnp.int32(1)

    def step(
        self, params: Any, cache: Any, token: Int[Array, ""], position: Int[Array, ""]
    ) -> tuple[Float[Array, " token"], Any]:
        """Scores of the next token, and the cache, after one token at its position."""
        states, cache = self._read(params, cache, token[None], position)
        return self._scores(params, states), cache

    def _read(self, params, cache, ids, start):
        positions = start + jnp.arange(ids.shape[0], dtype=jnp.int32)
        # Later positions of the cache may hold the prompt's padding: each is overwritten by a new
        # token before a query may read it.
        allowed = jnp.arange(self.capacity, dtype=jnp.int32)[None, :] <= positions[:, None]
        own = {"params": _body(params)}
        if self.config.decoder_only:
            model, context = make_decoder(self.config, self.options), (positions, allowed)
            (states, _), variables = model.apply(
                own | {"cache": cache}, {"ids": ids}, *context, mutable=["cache"]
            )
            return states, variables["cache"]
        states, variables = Bart(self.config, self.options).apply(
            own | {"cache": cache["layers"]},
            *(ids, positions, allowed, cache["memory"], cache["mask"]),
            mutable=["cache"],
            method="decode",
        )
        return states, cache | {"layers": variables["cache"]}

    def _scores(self, params, states):
        kind = "lm" if self.config.decoder_only else "seq2seq"
        head = make_head(self.config, kind, options=self.options).module
        table = params["word"]["embedding"]
        return head.apply({"params": params.get("head", {})}, states, None, table, {})[0]


def generate(
    config: ModelConfig,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    options: Options | None = None,
    method: str = "greedy",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    eos_id: int | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """New token ids: continuations of prompts (decoders), or targets of sources (BART).

    >>> from trustml.models import build_language_model
    >>> sizes = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "max_positions": 8}
    >>> config = ModelConfig(model_type="gpt2", num_layers=1, num_heads=1, **sizes)
    >>> network = build_language_model(config, "lm")
    >>> shapes = jax.eval_shape(network.init, jax.random.key(0))
    >>> zeros = jax.tree.map(jnp.zeros_like, shapes)  # all tokens tie: the first is taken
    >>> generate(config, zeros, [[1, 2], [3]], max_new_tokens=2)
    [[0, 0], [0, 0]]

    Args:
      config: Configuration of the network.
      params: Parameters of the network with the head "lm" or "seq2seq".
      prompts: Token ids of each prompt, of any length.
      max_new_tokens: Largest number of new tokens of a sequence.
      options: Options that the network was built with; dropout is off.
      method: "greedy" or "sample"; `SamplingRule` explains this and the next three.
      temperature: Divisor of the scores.
      top_k: Number of best tokens to draw from; 0 for all.
      top_p: Probability mass of the tokens to draw from.
      eos_id: A sequence ends before this token; `config.eos_id` by default, -1 for never.
      seed: Seed of the draws. A row's draws depend on the seed, its index in the batch and its
        prompt.

    Returns:
      The new ids of each prompt, without `eos_id`.

    Raises:
      ValueError: A prompt that is empty, is too long or has an unknown id; an option out of
        range; or scores that are not finite.
    """
    rule = SamplingRule(method=method, temperature=temperature, top_k=top_k, top_p=top_p)
    options = options or Options()
    if not config.decoder_only and config.model_type != "bart":
        able = ", ".join(DECODERS)
        raise ValueError(f"`config` must be of {able} or bart, got {config.model_type!r}.")
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise ValueError(f"`max_new_tokens` must be a positive integer, got {max_new_tokens!r}.")
    _check_adapters(params, options)
    if not len(prompts):
        return []
    ids, lengths = _padded(prompts, config, max_new_tokens)
    eos = config.eos_id if eos_id is None else eos_id
    # Without a backward pass `remat` has nothing to save.
    options = dataclasses.replace(options, dropout=0.0, remat=False)
    before = ids.shape[1] if config.decoder_only else 0
    writer = Writer(config, options, before + max_new_tokens)
    key = jax.random.key(seed)
    tokens, sizes, finite = _write(
        writer, rule, max_new_tokens, -1 if eos is None else eos, params, ids, lengths, key
    )
    if not bool(np.all(finite)):
        row = int(np.argmin(finite))
        raise ValueError(f"`params` must give finite scores, got others for `prompts[{row}]`.")
    pairs = zip(np.asarray(tokens), np.asarray(sizes), strict=True)
    return [row[:size].tolist() for row, size in pairs]


class _State(NamedTuple):
    """State of a batch between two tokens."""

    made: Int[Array, ""]  # new tokens of each row so far
    token: Int[Array, " row"]  # the last one
    written: Int[Array, "row new"]
    sizes: Int[Array, " row"]  # new tokens before the row's end
    ended: Bool[Array, " row"]
    finite: Bool[Array, " row"]  # whether all scores before the row's end were
    cache: Any


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _write(writer: Writer, rule: SamplingRule, new: int, eos: int, params, ids, lengths, key):
    """New tokens [row, new], their number before the end, and whether all scores were finite."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(ids.shape[0]))

    def append(state: _State, scores) -> _State:
        drawn = jax.vmap(lambda row, one: rule.choose(jax.random.fold_in(row, state.made), one))
        token = drawn(keys, scores)
        written = jax.lax.dynamic_update_slice_in_dim(state.written, token[:, None], state.made, 1)
        finite = state.finite & (jnp.isfinite(scores).all(-1) | state.ended)
        ended = state.ended | (token == eos)
        sizes = state.sizes + (~ended).astype(jnp.int32)
        return _State(state.made + 1, token, written, sizes, ended, finite, state.cache)

    def unfinished(state: _State):
        return (state.made < new) & ~state.ended.all()

    def body(state: _State) -> _State:
        step = jax.vmap(writer.step, (None, 0, 0, 0))
        scores, cache = step(params, state.cache, state.token, positions + state.made - 1)
        return append(state._replace(cache=cache), scores)

    scores, cache, positions = jax.vmap(writer.start, (None, 0, 0))(params, ids, lengths)
    rows = ids.shape[0]
    zeros, none = jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool)
    empty = jnp.zeros((rows, new), jnp.int32)
    state = _State(jnp.int32(0), zeros, empty, zeros, none, ~none, cache)
    state = jax.lax.while_loop(unfinished, body, append(state, scores))
    return state.written, state.sizes, state.finite


def _body(params):
    return {name: leaf for name, leaf in params.items() if name != "head"}


def _padded(prompts, config: ModelConfig, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts in one array, each with padding at its end, and their lengths."""
    most = config.max_positions - (new if config.decoder_only else 0)
    if not config.decoder_only and new > config.max_positions:
        raise ValueError(
            f"`max_new_tokens` must be at most {config.max_positions}, the positions of the "
            f"model, got {new}."
        )
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= most:
            room = f", which leaves room for {new} new ones" if config.decoder_only else ""
            raise ValueError(
                f"`prompts[{index}]` must have 1 to {most} tokens{room}, got {len(prompt)}."
            )
        wrong = [int(token) for token in prompt if not 0 <= token < config.vocab_size]
        if wrong:
            raise ValueError(
                f"`prompts[{index}]` must hold ids from 0 to {config.vocab_size - 1}, "
                f"got {wrong[0]}."
            )
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    time = min(most, -(-int(lengths.max()) // _ROUND) * _ROUND)
    ids = np.zeros((len(prompts), time), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return ids, lengths


def _check_adapters(params, options: Options) -> None:
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    adapted = any(path[-1].key == "lora_a" for path in paths)
    if adapted != (options.lora is not None):
        have, given = ("has", "no") if adapted else ("has no", "a")
        raise ValueError(
            f"`options` must be those of the network: `params` {have} low-rank adapters, and "
            f"`options` name {given} `lora`."
        )
