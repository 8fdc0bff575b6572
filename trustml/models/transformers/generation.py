"""Writes with GPT-2 and BART: a batch of prompts, one compiled loop, keys and values kept.

A sequence is independent of those beside it, its draws too: row and position give the key.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trustml.models.transformers.bart import Bart
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.gpt2 import Gpt2
from trustml.models.transformers.language import make_head
from trustml.models.transformers.layers import Options
from trustml.models.transformers.sampling_rules import SamplingRule

_ROUND = 16  # lengths of prompts are rounded up to multiples: few programs for many batches


@dataclasses.dataclass(frozen=True)
class Writer:
    """One sequence of a language model, token by token.

    A cache is a tree of arrays; a place counts the decoder's tokens from 0.

    Attributes:
      config: Of GPT-2 or BART.
      options: Of the network.
      capacity: Places of the decoder that a cache has room for.
    """

    config: ModelConfig
    options: Options
    capacity: int

    def start(
        self, params: Any, ids: Int[Array, " time"], length: Int[Array, ""]
    ) -> tuple[Float[Array, " token"], Any, Int[Array, ""]]:
        """Reads a prompt in one pass.

        Args:
          params: Of the network with the head "lm" or "seq2seq".
          ids: The prompt, then padding.
          length: Tokens of the prompt.

        Returns:
          Scores of the first new token, the cache, and that token's place.
        """
        if self.config.model_type == "gpt2":
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
        self, params: Any, cache: Any, token: Int[Array, ""], place: Int[Array, ""]
    ) -> tuple[Float[Array, " token"], Any]:
        """Reads one token at its place; gives scores of the next one and the cache."""
        states, cache = self._read(params, cache, token[None], place)
        return self._scores(params, states), cache

    def _read(self, params, cache, ids, place):
        places = place + jnp.arange(ids.shape[0], dtype=jnp.int32)
        # What stands behind a token in the cache, padding of the prompt too, is not read before
        # it is written anew.
        allowed = jnp.arange(self.capacity, dtype=jnp.int32)[None, :] <= places[:, None]
        own = {"params": _body(params)}
        if self.config.model_type == "gpt2":
            model, context = Gpt2(self.config, self.options), (places, allowed)
            (states, _), kept = model.apply(
                own | {"cache": cache}, {"ids": ids}, *context, mutable=["cache"]
            )
            return states, kept["cache"]
        states, kept = Bart(self.config, self.options).apply(
            own | {"cache": cache["layers"]},
            *(ids, places, allowed, cache["memory"], cache["mask"]),
            mutable=["cache"],
            method="go_on",
        )
        return states, cache | {"layers": kept["cache"]}

    def _scores(self, params, states):
        kind = "lm" if self.config.model_type == "gpt2" else "seq2seq"
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
    """Continues prompts (GPT-2), or writes what sources are to become (BART).

    Args:
      config: Of the network.
      params: Of the network with the head "lm" or "seq2seq".
      prompts: Ids of each, of any lengths.
      max_new_tokens: After as many a sequence ends in any case.
      options: Those that the network was built with; dropout is left out.
      method: "greedy" or "sample"; this and the next three as `SamplingRule` says.
      temperature: Divides the scores.
      top_k: Tokens that are kept; 0 for all.
      top_p: Probability that is kept.
      eos_id: A sequence ends before this token; `config.eos_id` by default, -1 for never.
      seed: Of the draws. A row's draws depend on the seed, its place in the batch, and its prompt.

    Returns:
      The new ids of each prompt, without `eos_id`.

    Raises:
      ValueError: A prompt that is empty or too long or has an id that the model lacks, an option
        out of range, or scores that are not finite.
    """
    rule = SamplingRule(method=method, temperature=temperature, top_k=top_k, top_p=top_p)
    options = options or Options()
    if config.model_type not in ("gpt2", "bart"):
        raise ValueError(f"`config` must be of gpt2 or bart, got {config.model_type!r}.")
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise ValueError(f"`max_new_tokens` must be a positive integer, got {max_new_tokens!r}.")
    _check_adapters(params, options)
    if not len(prompts):
        return []
    ids, lengths = _padded(prompts, config, max_new_tokens)
    eos = config.eos_id if eos_id is None else eos_id
    options = dataclasses.replace(options, dropout=0.0, remat=False)
    before = ids.shape[1] if config.model_type == "gpt2" else 0
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
    """A batch between two tokens."""

    made: Int[Array, ""]  # new tokens of each row so far
    token: Int[Array, " row"]  # the last one
    written: Int[Array, "row new"]
    sizes: Int[Array, " row"]  # new tokens before the row's end
    ended: Bool[Array, " row"]
    finite: Bool[Array, " row"]  # all scores that mattered
    cache: Any


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _write(writer: Writer, rule: SamplingRule, new: int, eos: int, params, ids, lengths, key):
    """New tokens [row, new], how many of them count, and whether all scores were finite."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(ids.shape[0]))

    def taken(state: _State, scores) -> _State:
        drawn = jax.vmap(lambda row, one: rule.choose(jax.random.fold_in(row, state.made), one))
        token = drawn(keys, scores)
        written = jax.lax.dynamic_update_slice_in_dim(state.written, token[:, None], state.made, 1)
        finite = state.finite & (jnp.isfinite(scores).all(-1) | state.ended)
        ended = state.ended | (token == eos)
        sizes = state.sizes + (~ended).astype(jnp.int32)
        return _State(state.made + 1, token, written, sizes, ended, finite, state.cache)

    def goes_on(state: _State):
        return (state.made < new) & ~state.ended.all()

    def body(state: _State) -> _State:
        step = jax.vmap(writer.step, (None, 0, 0, 0))
        scores, cache = step(params, state.cache, state.token, places + state.made - 1)
        return taken(state._replace(cache=cache), scores)

    scores, cache, places = jax.vmap(writer.start, (None, 0, 0))(params, ids, lengths)
    rows = ids.shape[0]
    zeros, none = jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool)
    empty = jnp.zeros((rows, new), jnp.int32)
    state = _State(jnp.int32(0), zeros, empty, zeros, none, ~none, cache)
    state = jax.lax.while_loop(goes_on, body, taken(state, scores))
    return state.written, state.sizes, state.finite


def _body(params):
    return {name: leaf for name, leaf in params.items() if name != "head"}


def _padded(prompts, config: ModelConfig, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts in one array, each with padding behind, and their lengths."""
    writes_behind = config.model_type == "gpt2"
    most = config.max_positions - (new if writes_behind else 0)
    if not writes_behind and new > config.max_positions:
        raise ValueError(
            f"`max_new_tokens` must be at most {config.max_positions}, the positions of the "
            f"model, got {new}."
        )
    for place, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= most:
            room = f", which leaves room for {new} new ones" if writes_behind else ""
            raise ValueError(
                f"`prompts[{place}]` must have 1 to {most} tokens{room}, got {len(prompt)}."
            )
        wrong = [int(token) for token in prompt if not 0 <= token < config.vocab_size]
        if wrong:
            raise ValueError(
                f"`prompts[{place}]` must hold ids from 0 to {config.vocab_size - 1}, "
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
