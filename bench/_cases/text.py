"""Networks on tokens, one sequence at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from .base import Case, Draw, cross_entropy

INTENTS, TAGS = 7, 72  # as SNIPS has
RANK, LORA_SCALE = 8, 2.0


def bilstm(quick: bool) -> Case:
    """An intent from the mean state and a slot tag from each state of a bidirectional LSTM."""
    batch, time, width, vocabulary = (4, 5, 8, 50) if quick else (128, 32, 128, 8000)
    draw = Draw()

    def direction():
        return {
            "input": draw.weight(width, 4 * width),
            "bias": jnp.zeros(4 * width),
            "recurrent": draw.weight(width, 4 * width),
        }

    params = {
        "embedding": draw.normal(vocabulary, width),
        "forward": direction(),
        "backward": direction(),
        "intent": {"w": draw.weight(2 * width, INTENTS), "b": jnp.zeros(INTENTS)},
        "slot": {"w": draw.weight(2 * width, TAGS), "b": jnp.zeros(TAGS)},
    }

    def loss(p, unit):
        x = p["embedding"][unit["x"]]
        ways = [_lstm(x, p["forward"]), _lstm(x, p["backward"], reverse=True)]
        states = jnp.concatenate(ways, axis=-1)
        intent = jnp.mean(states, axis=0) @ p["intent"]["w"] + p["intent"]["b"]
        tags = states @ p["slot"]["w"] + p["slot"]["b"]
        return cross_entropy(intent, unit["y"]) + jnp.mean(cross_entropy(tags, unit["tags"]))

    units = {
        "x": draw.integers(vocabulary, batch, time),
        "y": draw.integers(INTENTS, batch),
        "tags": draw.integers(TAGS, batch, time),
    }
    what = f"BiLSTM 2x{width}, {time} tokens, vocabulary {vocabulary}, batch {batch}"
    return Case(loss, params, units, what)


def _lstm(x, p, *, reverse=False):
    width = p["recurrent"].shape[0]
    inputs = x @ p["input"] + p["bias"]  # outside the loop: one large product

    def tick(state, entry):
        cell, hidden = state
        i, f, g, o = jnp.split(entry + hidden @ p["recurrent"], 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (cell, hidden), hidden

    zero = jnp.zeros(width, jnp.float32)
    return jax.lax.scan(tick, (zero, zero), inputs, reverse=reverse)[1]


def lstm(*, batch: int, time: int, embedding: int, width: int, vocabulary: int) -> Case:
    """The next token by one LSTM."""
    draw = Draw()
    params = {
        "embedding": draw.normal(vocabulary, embedding),
        "input": draw.weight(embedding, 4 * width),
        "bias": jnp.zeros(4 * width),
        "recurrent": draw.weight(width, 4 * width),
        "w": draw.weight(width, vocabulary),
        "b": jnp.zeros(vocabulary),
    }

    def loss(p, tokens):
        logits = _lstm(p["embedding"][tokens], p) @ p["w"] + p["b"]
        return jnp.mean(cross_entropy(logits[:-1], tokens[1:]))

    tokens = draw.integers(vocabulary, batch, time)
    return Case(loss, params, tokens, f"LSTM {width}, {time} tokens, vocabulary {vocabulary}")


def _layer(draw, width):
    zeros, ones = jnp.zeros, jnp.ones
    return {
        **{name: draw.weight(width, width) for name in "qkvo"},
        **{f"b{name}": zeros(width) for name in "qkvo"},
        "scale1": ones(width),
        "shift1": zeros(width),
        "scale2": ones(width),
        "shift2": zeros(width),
        "up": draw.weight(width, 4 * width),
        "bup": zeros(4 * width),
        "down": draw.weight(4 * width, width),
        "bdown": zeros(width),
    }


def _normalised(x, scale, shift):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return centred * spread * scale + shift


def _block(x, p, heads, mask, adapters=None):
    time, width = x.shape
    y = _normalised(x, p["scale1"], p["shift1"])
    mixers = {name: y @ p[name] + p[f"b{name}"] for name in "qkv"}
    for name, adapter in (adapters or {}).items():
        mixers[name] += LORA_SCALE * ((y @ adapter["down"]) @ adapter["up"])
    q, k, v = (mixers[name].reshape(time, heads, -1) for name in "qkv")
    scores = jnp.einsum("thd,shd->hts", q, k) / np.sqrt(width / heads)
    if mask is not None:
        scores = jnp.where(mask, scores, -1e9)
    mixed = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores), v).reshape(time, width)
    x = x + mixed @ p["o"] + p["bo"]
    y = _normalised(x, p["scale2"], p["shift2"])
    return x + jax.nn.gelu(y @ p["up"] + p["bup"]) @ p["down"] + p["bdown"]


def _transformer(quick, *, batch=32, time=64, width=256, layers=4, heads=4, vocabulary=8000):
    if quick:
        batch, time, width, layers, heads, vocabulary = 4, 8, 16, 1, 4, 50
    draw = Draw()
    params = {
        "embedding": 0.02 * draw.normal(vocabulary, width),
        "position": 0.02 * draw.normal(time, width),
        "layers": [_layer(draw, width) for _ in range(layers)],
    }
    what = f"{layers} layers of {width}, {time} tokens, vocabulary {vocabulary}, batch {batch}"
    tokens = draw.integers(vocabulary, batch, time)
    return draw, params, tokens, heads, what


def bert(quick: bool, **sizes) -> Case:
    """BERT-style encoder with a classifier on the first token."""
    draw, params, tokens, heads, what = _transformer(quick, **sizes)
    params["head"] = draw.weight(params["position"].shape[1], 10)

    def loss(p, unit):
        x = p["embedding"][unit["x"]] + p["position"]
        for layer in p["layers"]:
            x = _block(x, layer, heads, None)
        return cross_entropy(x[0] @ p["head"], unit["y"])

    units = {"x": tokens, "y": draw.integers(10, len(tokens))}
    return Case(loss, params, units, f"BERT-style: {what}")


def _causal(time):
    return jnp.tril(jnp.ones((time, time), bool))


def _decoder_loss(p, tokens, heads, output, adapters=None):
    """Mean cross-entropy of the next token; `output` is [token, width]."""
    mask = _causal(tokens.shape[0])
    x = p["embedding"][tokens] + p["position"]
    for index, layer in enumerate(p["layers"]):
        x = _block(x, layer, heads, mask, adapters and adapters[index])
    return jnp.mean(cross_entropy((x @ output.T)[:-1], tokens[1:]))


def gpt(quick: bool, **sizes) -> Case:
    """GPT-style decoder, output tied to the embedding."""
    _, params, tokens, heads, what = _transformer(quick, **sizes)

    def loss(p, tokens):
        return _decoder_loss(p, tokens, heads, p["embedding"])

    return Case(loss, params, tokens, f"GPT-style, tied: {what}")


def gpt_untied(quick: bool, **sizes) -> Case:
    """The same with an output matrix of its own: what rivals that refuse tying can run."""
    draw, params, tokens, heads, what = _transformer(quick, **sizes)
    params["output"] = 0.02 * draw.normal(*params["embedding"].shape)

    def loss(p, tokens):
        return _decoder_loss(p, tokens, heads, p["output"])

    return Case(loss, params, tokens, f"GPT-style, untied: {what}")


def gpt_remat(quick: bool, **sizes) -> Case:
    """The untied one with its layers under scan and remat, as where memory is short."""
    draw, params, tokens, heads, what = _transformer(quick, **sizes)
    params["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["layers"])
    params["output"] = 0.02 * draw.normal(*params["embedding"].shape)

    def loss(p, tokens):
        @jax.checkpoint
        def layer(x, weights):
            return _block(x, weights, heads, _causal(tokens.shape[0])), None

        x, _ = jax.lax.scan(layer, p["embedding"][tokens] + p["position"], p["layers"])
        return jnp.mean(cross_entropy((x @ p["output"].T)[:-1], tokens[1:]))

    return Case(loss, params, tokens, f"GPT-style, untied, scan and remat: {what}")


def lora(quick: bool, **sizes) -> Case:
    """The GPT-style network frozen; adapters of rank 8 on queries and values are trained."""
    draw, base, tokens, heads, what = _transformer(quick, **sizes)
    width = base["position"].shape[1]

    def adapter():
        # Both halves away from zero, as after some training: every gradient counts.
        return {"down": draw.weight(width, RANK), "up": 0.02 * draw.normal(RANK, width)}

    params = {"base": base, "lora": [{name: adapter() for name in "qv"} for _ in base["layers"]]}

    def loss(p, tokens):
        return _decoder_loss(p["base"], tokens, heads, p["base"]["embedding"], p["lora"])

    what = f"LoRA of rank {RANK} on GPT-style: {what}"
    return Case(loss, params, tokens, what, trainable=lambda name: name.startswith("lora/"))


def bert_base(quick: bool) -> Case:
    """BERT-base sizes: 12 layers of 768."""
    return bert(quick, batch=4, time=128, width=768, layers=12, heads=12, vocabulary=30_000)


def gpt2_small(quick: bool) -> Case:
    """GPT-2-small sizes: 12 layers of 768, vocabulary 50,257."""
    return gpt(quick, batch=4, time=128, width=768, layers=12, heads=12, vocabulary=50_257)
