"""Private steps of a BERT classifier by Opacus, with the weights and rows that trustml has.

`finetune.py` calls it in its own process, so that both sides take turns.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import nn
from torch.nn import functional

_HALVES = ("lora_a", "lora_b")


class Adapted(nn.Module):
    """A dense layer with a low-rank adapter beside it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.lora_a = nn.Linear(base.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        """The layer's output plus that of the adapter."""
        return self.base(x) + self.scale * self.lora_b(self.lora_a(x))


class Classifier(nn.Module):
    """BERT of transformers without dropout, its weights by the names of our leaves.

    Positions and segments are written out for every row: Opacus cannot use the one row that BERT
    makes of them ("stack expects each tensor to be equal size").
    """

    def __init__(self, config: dict[str, Any], classes: int, lora):
        super().__init__()
        config = {key: value for key, value in config.items() if not key.endswith(("label", "2id"))}
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        made = transformers.BertConfig(**config, num_labels=classes)
        self.net = transformers.BertForSequenceClassification(made)
        for name, module in list(self.net.named_modules()):
            if lora is not None and re.search("attention.self.(query|value)$", name):
                self.net.set_submodule(name, Adapted(module, lora.rank, lora.alpha))

    def forward(self, units):
        """Scores [row, class]."""
        ids, mask = units["ids"], units["mask"]
        positions = torch.arange(ids.shape[1]).expand(ids.shape).contiguous()
        types = units.get("types", torch.zeros_like(ids))
        return self.net(
            input_ids=ids, attention_mask=mask, token_type_ids=types, position_ids=positions
        ).logits

    def load(self, leaves: dict[str, np.ndarray], stored: dict[str, Any], trained: Sequence[str]):
        """Takes weights; `trained` are the leaves that steps change.

        Args:
          leaves: Arrays by our names.
          stored: Of `stored_leaves`: name and form in transformers.
          trained: Our names.
        """
        self.of_leaf = {name: self._place(name, stored, leaves) for name in leaves}
        values = dict(self.net.named_parameters())
        for value in values.values():
            value.requires_grad_(False)
        with torch.no_grad():
            for name, (theirs, transposed) in self.of_leaf.items():
                array = leaves[name].T if transposed else leaves[name]
                values[theirs].copy_(torch.from_numpy(np.array(array)))
                values[theirs].requires_grad_(name in trained)

    def _place(self, name, stored, leaves):
        module, _, part = name.rpartition("/")
        if part in _HALVES:
            beside = stored[f"{module}/kernel"].name.removesuffix(".weight")
            return f"{beside}.{part}.weight", True
        found = stored[name].name
        if f"{module}/lora_a" in leaves:
            base, _, last = found.rpartition(".")
            found = f"{base}.base.{last}"
        return found, stored[name].transposed


class Side:
    """Training by Opacus: `step` on the rows of a draw.

    Args:
      net: With weights.
      hooks: Whether per-example gradients are made, in place of ghost clipping.
      physical: Rows at a time, by length; None for all as they are.
      rate: Of Adam.
      plan: Whose bound, noise and divisor are used.
    """

    def __init__(self, net: Classifier, *, hooks: bool, physical: int | None, rate: float, plan):
        self.net, self.hooks, self.physical = net, hooks, physical
        bound = {"max_grad_norm": plan.clip_norm, "noise_multiplier": plan.noise_multiplier}
        trained = [value for value in net.parameters() if value.requires_grad]
        adam = torch.optim.Adam(trained, lr=rate, eps=1e-8)
        options = {**bound, "expected_batch_size": plan.expected_batch}
        if hooks:
            self.module = GradSampleModule(net, loss_reduction="mean")
            self.optimizer: Any = DPOptimizer(adam, **options)
        else:
            self.module = GradSampleModuleFastGradientClipping(
                net,
                max_grad_norm=plan.clip_norm,
                use_ghost_clipping=True,
                loss_reduction="mean",
            )
            self.optimizer = DPOptimizerFastGradientClipping(adam, **options)
        self.module.train()

    def step(self, rows: dict[str, np.ndarray]) -> float:
        """One step; the mean loss before it."""
        total, parts = 0.0, list(self._parts(rows))
        for place, part in enumerate(parts):
            self.optimizer.signal_skip_step(do_skip=place + 1 < len(parts))
            total += self._backward(part)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return total / len(rows["label"])

    def sums(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Clipped sums of all rows by our names, without noise."""
        for part in self._parts(rows):
            self._backward(part)
            self.optimizer.signal_skip_step(do_skip=True)  # adds to the sums, and no more
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        values = dict(self.net.net.named_parameters())
        found = {}
        for name, (theirs, transposed) in self.net.of_leaf.items():
            if values[theirs].requires_grad:
                array = values[theirs].summed_grad.numpy()
                found[name] = array.T if transposed else array
                values[theirs].summed_grad = None
        return found

    def _parts(self, rows):
        """All rows, or slices of about one length that are cut to their longest row."""
        if self.physical is None:
            yield tensors(rows)
            return
        lengths = rows["mask"].sum(1)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), self.physical):
            part = order[start : start + self.physical]
            longest = lengths[part].max()
            yield tensors(
                {
                    name: column[part, :longest] if column.ndim > 1 else column[part]
                    for name, column in rows.items()
                }
            )

    def _backward(self, rows) -> float:
        losses = functional.cross_entropy(self.module(rows), rows["label"], reduction="none")
        if self.hooks:
            losses.mean().backward()
        else:
            DPTensorFastGradientClipping(self.module, self.optimizer, losses, "mean").backward()
        return float(losses.detach().sum())

    def accuracy(self, rows: dict[str, np.ndarray]) -> float:
        """Share of rows whose label has the best score."""
        with torch.no_grad():
            scores = [self.net(part).argmax(1).numpy() for part in self._parts_of(rows)]
        return float(np.mean(np.concatenate(scores) == rows["label"]))

    def _parts_of(self, rows, size: int = 64):
        for start in range(0, len(rows["label"]), size):
            yield tensors({name: column[start : start + size] for name, column in rows.items()})


def tensors(rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Columns as tensors; integers as PyTorch's tables want them."""
    whole = {name: np.ascontiguousarray(column) for name, column in rows.items()}
    return {name: torch.from_numpy(column).long() for name, column in whole.items()}
