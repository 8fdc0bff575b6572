"""Networks on tokens."""

import torch
from torch import nn
from torch.nn import functional

from .base import Leaf, dense, per_example


class BiLstm(nn.Module):
    """An intent from the mean state and a slot tag from each state."""

    def __init__(self, shapes, lstm=nn.LSTM):
        super().__init__()
        width = shapes["forward/recurrent"][0]
        self.embedding = nn.Embedding(*shapes["embedding"])
        self.lstm = lstm(width, width, batch_first=True, bidirectional=True)
        self.intent = nn.Linear(*shapes["intent/w"])
        self.slot = nn.Linear(*shapes["slot/w"])
        self.names = [Leaf("embedding", "embedding.weight")]
        for way, end in (("forward", ""), ("backward", "_reverse")):
            self.names += [
                Leaf(f"{way}/input", f"lstm.weight_ih_l0{end}", axes=(1, 0)),
                Leaf(f"{way}/recurrent", f"lstm.weight_hh_l0{end}", axes=(1, 0)),
                Leaf(f"{way}/bias", f"lstm.bias_ih_l0{end}"),
            ]
        for head in ("intent", "slot"):
            self.names += [dense(f"{head}/w", head), Leaf(f"{head}/b", f"{head}.bias")]
        for name, value in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # a second bias, which the network does not have
                value.requires_grad_(False).zero_()

    def forward(self, units):
        states, _ = self.lstm(self.embedding(units["x"]))
        intent, tags = self.intent(states.mean(1)), self.slot(states)
        return per_example(intent, units["y"]) + per_example(tags, units["tags"])


class Lstm(nn.Module):
    """The next token by one LSTM."""

    def __init__(self, shapes):
        super().__init__()
        width = shapes["recurrent"][0]
        self.embedding = nn.Embedding(*shapes["embedding"])
        self.lstm = nn.LSTM(shapes["embedding"][1], width, batch_first=True)
        self.output = nn.Linear(*shapes["w"])
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()  # which the network does not have
        self.names = [
            Leaf("embedding", "embedding.weight"),
            Leaf("input", "lstm.weight_ih_l0", axes=(1, 0)),
            Leaf("recurrent", "lstm.weight_hh_l0", axes=(1, 0)),
            Leaf("bias", "lstm.bias_ih_l0"),
            dense("w", "output"),
            Leaf("b", "output.bias"),
        ]

    def forward(self, units):
        states, _ = self.lstm(self.embedding(units["x"]))
        return per_example(self.output(states)[:, :-1], units["x"][:, 1:])


class _Adapter(nn.Module):
    def __init__(self, down, up):
        super().__init__()
        self.down, self.up = nn.Linear(*down, bias=False), nn.Linear(*up, bias=False)

    def forward(self, x):
        return 2.0 * self.up(self.down(x))


class _Block(nn.Module):
    def __init__(self, shapes, name, heads, adapters):
        super().__init__()
        width, inner = shapes[f"{name}/up"]
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.adapters = nn.ModuleDict(adapters)

    def forward(self, x, causal):
        y = self.norm1(x)
        q, k, v = (self._heads(name, y) for name in "qkv")
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        y = functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(y)

    def _heads(self, name, y):
        x = getattr(self, name)(y)
        if name in self.adapters:
            x = x + self.adapters[name](y)
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Transformer(nn.Module):
    """The encoder with a classifier, or the decoder: tied, untied, or frozen with adapters."""

    def __init__(self, shapes, heads, kind):
        super().__init__()
        self.kind, base = kind, "base/" if kind == "lora" else ""
        vocabulary, width = shapes[f"{base}embedding"]
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(*shapes[f"{base}position"])
        depth = sum(name.startswith(f"{base}layers/") and name.endswith("/q") for name in shapes)
        self.layers = nn.ModuleList(
            _Block(shapes, f"{base}layers/{index}", heads, _adapters(shapes, index))
            for index in range(depth)
        )
        outputs = 10 if kind == "bert" else vocabulary
        if kind != "lora":
            self.output = nn.Linear(width, outputs, bias=False)
        if kind == "gpt":
            self.output.weight = self.embedding.weight
        self.names = _transformer_names(base, depth, kind)
        for name, value in self.named_parameters():
            value.requires_grad_(kind != "lora" or "adapters" in name)

    def forward(self, units):
        tokens = units["x"]
        # Written out in full: Opacus' rule for embeddings does not take an expanded view.
        places = torch.arange(tokens.shape[1]).expand(tokens.shape).contiguous()
        x = self.embedding(tokens) + self.position(places)
        for layer in self.layers:
            x = layer(x, self.kind != "bert")
        if self.kind == "bert":
            return per_example(self.output(x[:, 0]), units["y"])
        # The frozen table needs no hook, so it may be used as it is.
        frozen = self.kind == "lora"
        logits = functional.linear(x, self.embedding.weight) if frozen else self.output(x)
        return per_example(logits[:, :-1], tokens[:, 1:])


def _adapters(shapes, index):
    names = [name for name in "qv" if f"lora/{index}/{name}/up" in shapes]
    return {
        name: _Adapter(*(shapes[f"lora/{index}/{name}/{half}"] for half in ("down", "up")))
        for name in names
    }


def _transformer_names(base, depth, kind):
    names = [Leaf(f"{base}{name}", f"{name}.weight") for name in ("embedding", "position")]
    if kind == "bert":
        names.append(dense("head", "output"))
    if kind == "gpt-untied":
        names.append(Leaf("output", "output.weight"))
    for index in range(depth):
        here, there = f"{base}layers/{index}/", f"layers.{index}."
        for name in ("q", "k", "v", "o", "up", "down"):
            names += [
                dense(here + name, there + name),
                Leaf(f"{here}b{name}", f"{there}{name}.bias"),
            ]
        for place in "12":
            names += [
                Leaf(f"{here}scale{place}", f"{there}norm{place}.weight"),
                Leaf(f"{here}shift{place}", f"{there}norm{place}.bias"),
            ]
        if kind == "lora":
            halves = [(name, half) for name in "qv" for half in ("down", "up")]
            names += [
                dense(f"lora/{index}/{name}/{half}", f"{there}adapters.{name}.{half}")
                for name, half in halves
            ]
    return names
