"""Language models for `trustml train`: pretrained ones, and small ones trained on public text."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax

from trustml.data import Examples
from trustml.models.tasks import Task
from trustml.models.tasks.labels import PROBLEM_TYPES
from trustml.models.tasks.task import LANGUAGE_MODEL
from trustml.models.transformers.adapters import Trainable
from trustml.models.transformers.layers import Options
from trustml.models.transformers.problem_types import SINGLE, problem_type_of
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.public_text import public_text
from trustml.recipes.train.trainable import (
    LORA_RANK,
    OF_ALL_LAYERS,
    adapters_of,
    check_trained,
    trained_leaves,
)

MINI = {f"mini-{kind}": kind for kind in ("bert", "gpt2", "bart")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextModel:
    """A language model with a head for the task.

    Args:
      name: "mini-bert", "mini-gpt2" or "mini-bart", or the folder or name of pretrained weights.
      trainable: The trained leaves: "all", "lora", "bitfit", "last-K", or a pattern of names.
      max_length: Largest number of tokens of a row.
      target_length: Largest number of generated tokens.
      from_scratch: Whether the same network starts from random weights.
      lora_rank: Rank of the adapters of "lora".
    """

    name: str
    trainable: str = "all"
    max_length: int = 64
    target_length: int = 64
    from_scratch: bool = False
    lora_rank: int = LORA_RANK

    def build(self, schema: Examples, public: PublicData) -> Task:
        """The task for data with the schema of `schema`.

        Raises:
          ValueError: The model does not support the task, or cannot be read.
        """
        from trustml.models.tasks.language import language_task
        from trustml.models.tasks.tokens import Limits

        model, disclosure = self._load(schema, public)
        self._check(model, schema.task)

        def start(seed: int):
            if self.from_scratch:
                return model.network.init(jax.random.key(seed))
            return self._load(schema, public, seed)[0].params if seed else model.params

        return language_task(
            schema,
            network=model.network,
            tokenizer=model.tokenizer,
            start=start,
            limits=Limits(self.max_length, self.target_length),
            config=self._facts(schema, model),
            disclosures=("start: random weights" if self.from_scratch else disclosure,),
            write=writer(model) if schema.task == "seq2seq" else None,
        )

    def _check(self, model: Any, task: str) -> None:
        """Refuses a model without tokenizer, with another problem type or too few positions."""
        if model.tokenizer is None:
            raise ValueError(
                f"`--model` must hold its tokenizer (tokenizer.json), got {self.name} without."
            )
        config = model.config
        if task == "classify":
            problem = problem_type_of(config.problem_type, len(config.labels))
            if problem != SINGLE:
                raise ValueError(
                    f"`--model` must tell one class out of several, as the data do, got "
                    f"{self.name}, a model for {problem}. Change `problem_type` of its "
                    "config.json, or name another model."
                )
        # RoBERTa numbers positions from its padding id plus one.
        lost = config.pad_id + 1 if config.model_type == "roberta" else 0
        most = config.max_positions - lost
        for name in ("max_length", "target_length"):
            if not 8 <= getattr(self, name) <= most:
                flag = name.replace("_", "-")
                raise ValueError(
                    f"`--{flag}` must be from 8 to {most}, the positions of {self.name}, got "
                    f"{getattr(self, name)}."
                )

    def _load(self, schema: Examples, public: PublicData, seed: int = 0) -> tuple[Any, str]:
        """The model, and the line about its initial weights in the statement."""
        from trustml.models.pretrained.loading import from_pretrained
        from trustml.models.pretrained.public_text import PublicModel, public_model
        from trustml.models.transformers.language import HEADS

        folder: str | Path = self.name
        disclosure = f"start: pretrained weights of {Path(self.name).name}, taken to be public"
        if self.name in MINI:
            kind = MINI[self.name]
            head = _head_of(schema.task)
            if head not in HEADS[kind]:
                able = ", ".join(name for name in MINI if head in HEADS[MINI[name]])
                raise ValueError(
                    f"`--model` must be able to do the task {schema.task!r}, got {self.name}. "
                    f"Try {able}."
                )
            rows, source = public_text(self.name, schema.name, public)
            model = PublicModel(kind=kind)
            if self.from_scratch:
                return self._untrained(schema, model, model.tokenizer(rows, source)), disclosure
            progress = None if public.quiet else _progress
            folder = public_model(model, rows, source, progress=progress)
            disclosure = f"start: pretrained on {source}"
        labels, tags = _labels_and_tags(schema)
        try:
            pretrained = from_pretrained(
                folder,
                head=_head_of(schema.task),
                labels=labels,
                tags=tags,
                problem_type=_own_problem_type(schema.task),
                options=self._options(),
                key=jax.random.key(seed),
                download=public.download,
            )
        except ValueError as error:
            small = ", ".join(MINI)
            raise ValueError(
                f"`--model` must be the folder or name of a model for the task {schema.task!r}, or "
                f"one of {small}, conv, bilstm, transformer, got {self.name}: {error}"
            ) from None
        return pretrained, disclosure + _random_parts(pretrained)

    def _untrained(self, schema: Examples, model: Any, tokenizer: Any) -> Any:
        labels, tags = _labels_and_tags(schema)
        own = _own_problem_type(schema.task)
        config = model.config(tokenizer)
        config = dataclasses.replace(config, labels=labels, tags=tags, problem_type=own)
        return _without_weights(config, _head_of(schema.task), self._options(), tokenizer)

    def _options(self) -> Options:
        return _options(self.trainable, self.lora_rank if self.trainable == "lora" else None)

    def _facts(self, schema: Examples, model: Any) -> dict[str, Any]:
        return {
            "architectures": [LANGUAGE_MODEL],
            "task": schema.task,
            "model": model.config.to_hf(),
            "labels": list(model.config.labels),
            "tags": list(model.config.tags),
            "logits_bias": model.config.logits_bias,
            **({} if schema.value_range is None else {"value_range": list(schema.value_range)}),
            "train": self.trainable,
            "lora_rank": self.lora_rank if self.trainable == "lora" else None,
            "max_length": self.max_length,
            "target_length": self.target_length,
            "dtype": "float32",
        }

    def trainable_leaves(self, config: dict[str, Any]) -> Trainable | None:
        """The trained leaves of the network of `config`; None for all."""
        from trustml.models.transformers.config import ModelConfig

        sizes = ModelConfig.from_hf(config["model"])
        return trained_leaves(self.trainable, sizes.num_layers, sizes.decoder_layers)

    def check_names(self, names: list[str]) -> None:
        """Refuses a pattern without any match: a typing error would train the head alone."""
        check_trained(self.trainable, names)

    def describe(self) -> dict[str, Any]:
        """Name and sizes, for the report."""
        name = self.name if self.name in MINI else Path(self.name).name
        return {"network": name, "train": self.trainable, "max_length": self.max_length}

    def with_pretraining(self, pretrain: bool | None, preset: str) -> "TextModel":
        """The model from random weights if `pretrain` is False."""
        del preset
        return dataclasses.replace(self, from_scratch=pretrain is False)

    def with_max_length(self, length: int) -> "TextModel":
        """The model with another `max_length`."""
        return dataclasses.replace(self, max_length=length)

    def with_trainable(self, trainable: str | None) -> "TextModel":
        """The model with another choice of trained leaves."""
        return self if trainable is None else dataclasses.replace(self, trainable=trainable)


def _random_parts(pretrained: Any) -> str:
    """The parts of a pretrained model that start from random weights."""
    modules = {leaf.rpartition("/")[0] for leaf in pretrained.fresh if "/lora_" not in leaf}
    return f"; random at the start: {', '.join(sorted(modules))}" if modules else ""


def rebuilt(config: dict[str, Any], tokenizer: Path) -> Any:
    """The network of a run from its `resolved.yaml`, as `Pretrained` without weights.

    Args:
      config: The `Task.config` of the run.
      tokenizer: The folder of the run's tokenizer.

    Raises:
      ValueError: The tokenizer is missing or broken.
    """
    from trustml.models.tokenizers.text_tokenizer import TextTokenizer
    from trustml.models.transformers.config import ModelConfig

    sizes, rank = ModelConfig.from_hf(config["model"]), config["lora_rank"]
    sizes = dataclasses.replace(
        sizes,
        labels=tuple(config["labels"]),
        tags=tuple(config["tags"]),
        logits_bias=config["logits_bias"],
    )
    options = _options(config["train"], rank)
    head = _head_of(config["task"])
    return _without_weights(sizes, head, options, TextTokenizer.from_folder(tokenizer))


def _options(trainable: str, rank: int | None) -> Options:
    # Other choices name single layers, which a loop over layers has not.
    scan = None if trainable in OF_ALL_LAYERS else False
    return Options(scan=scan, lora=adapters_of(trainable, rank))


def writer(model: Any) -> Any:
    """Maps weights, token sources and a largest number of new tokens to the tokens it writes.

    Args:
      model: A `Pretrained` with the head of "seq2seq".
    """
    from trustml.models.transformers.generation import generate

    def write(params, sources, most: int):
        end, options = model.config.eos_id, model.options
        return generate(
            model.config, params, sources, max_new_tokens=most, options=options, eos_id=end
        )

    return write


def _without_weights(config: Any, head: str, options: Options, tokenizer: Any) -> Any:
    from trustml.models.pretrained.loading import Pretrained
    from trustml.models.transformers.language import build_language_model

    named = {"labels": config.labels, "tags": config.tags}
    network = build_language_model(config, head, **named, options=options)
    return Pretrained(network, None, config, tokenizer, (), head, options)


def _head_of(task: str) -> str:
    """The head for a task: one module, with the loss of its problem type, serves several."""
    return "classify" if task in PROBLEM_TYPES else task


def _own_problem_type(task: str) -> str | None:
    """The problem type that a task needs and a checkpoint need not have."""
    return None if task == "classify" else PROBLEM_TYPES.get(task)


def _labels_and_tags(schema: Examples) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels and tags of the head for a task; a number has one output."""
    labels = schema.labels if schema.task in ("classify", "multilabel", "nlu") else ()
    if schema.task == "regression":
        labels = ("value",)
    return labels, schema.tags if schema.task in ("tag", "nlu") else ()


def _progress(done: int, steps: int, loss: float) -> None:
    end = "\n" if done == steps else ""
    line = f"\rmaking a small model from public text, once: step {done} of {steps}, loss {loss:.2f}"
    print(line, end=end, file=sys.stderr, flush=True)
