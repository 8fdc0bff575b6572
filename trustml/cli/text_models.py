"""Language models for `trustml train`: pretrained ones, and small ones made from public text."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from trustml.data.example_sets import load_examples
from trustml.data.examples import Examples
from trustml.models.adapters import Trainable, bitfit, last_layers, lora_only, matching
from trustml.models.layers import Lora, Options
from trustml.models.tasks import Problem

MINI = {f"mini-{kind}": kind for kind in ("bert", "gpt2", "bart")}
TEXT = "wikitext2"  # what the small ones are made from
_HEAD = "^(head|pooler)/"  # trained in any case: it may be new


class Public(NamedTuple):
    """Where public text is read from."""

    data_dir: str | None = None
    download: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextModel:
    """A language model with a head for the task.

    Args:
      name: "mini-bert", "mini-gpt2" or "mini-bart", or the folder or name of pretrained weights.
      train: What is trained: "all", "lora", "bitfit", "last-K", or a pattern of names.
      max_length: Pieces read of a row.
      target_length: Pieces that may be written.
      from_scratch: Start from random weights of the same network.
      lora_rank: Rank of the adapters of "lora".
    """

    name: str
    train: str = "all"
    max_length: int = 64
    target_length: int = 64
    from_scratch: bool = False
    lora_rank: int = 8

    def problem(self, schema: Examples, public: Public) -> Problem:
        """The model for data under the schema of `schema`."""
        from trustml.models.generation import generate
        from trustml.models.tasks.language import language_problem
        from trustml.models.tasks.pieces import Limits

        found = self._load(schema, public)
        most = found.config.max_positions
        if not 8 <= self.max_length <= most:
            raise ValueError(
                f"`--max-length` must be from 8 to {most}, the positions of {self.name}, got "
                f"{self.max_length}."
            )

        def start(seed: int):
            if self.from_scratch:
                return found.network.init(jax.random.key(seed))
            return self._load(schema, public, seed).params

        def write(params, sources, most: int):
            end = found.config.eos_id
            options = self._options()
            return generate(
                found.config, params, sources, max_new_tokens=most, options=options, eos_id=end
            )

        return language_problem(
            schema,
            network=found.network,
            tokenizer=found.tokenizer,
            start=start,
            limits=Limits(self.max_length, self.target_length),
            config=self._facts(schema, found),
            disclosures=(self._told(),),
            write=write if schema.task == "seq2seq" else None,
        )

    def _load(self, schema: Examples, public: Public, seed: int = 0) -> Any:
        from trustml.models.pretrained import from_pretrained
        from trustml.models.public_text import PublicModel, public_model

        folder: str | Path = self.name
        if self.name in MINI:
            text = load_examples(TEXT, public.data_dir, download=public.download)
            rows = [row.text for part in text for row in part.rows]
            model = PublicModel(kind=MINI[self.name])
            folder = public_model(model, rows, "WikiText-2, public", progress=_progress)
        labelled = schema.task in ("classify", "nlu")
        return from_pretrained(
            folder,
            head=schema.task,
            labels=schema.labels if labelled else (),
            tags=schema.tags if schema.task in ("tag", "nlu") else (),
            options=self._options(),
            key=jax.random.key(seed),
            download=public.download,
        )

    def _options(self) -> Options:
        return Options(lora=Lora(rank=self.lora_rank) if self.train == "lora" else None)

    def _facts(self, schema: Examples, found: Any) -> dict[str, Any]:
        return {
            "architectures": ["trustml.models.language"],
            "task": schema.task,
            "model": found.config.to_hf(),
            "labels": list(found.config.labels),
            "tags": list(found.config.tags),
            "train": self.train,
            "lora_rank": self.lora_rank if self.train == "lora" else None,
            "max_length": self.max_length,
            "target_length": self.target_length,
            "dtype": "float32",
        }

    def _told(self) -> str:
        if self.from_scratch:
            return "start: random weights"
        if self.name in MINI:
            return "start: pretrained on the valid and test parts of WikiText-2, which are public"
        return f"start: pretrained weights of {Path(self.name).name}, taken to be public"

    def trainable(self, config: dict[str, Any]) -> Trainable | None:
        """Which leaves of the network of `config` are trained; None for all."""
        from trustml.models.config import ModelConfig

        last = re.fullmatch(r"last-(\d+)", self.train)
        if self.train == "all":
            return None
        if self.train == "lora":
            return lora_only(head=_HEAD)
        if self.train == "bitfit":
            return bitfit(head=_HEAD)
        if last:
            layers = ModelConfig.from_hf(config["model"]).num_layers
            return last_layers(int(last[1]), layers, head=_HEAD)
        return matching(self.train)

    def describe(self) -> dict[str, Any]:
        """For the report."""
        name = self.name if self.name in MINI else Path(self.name).name
        return {"network": name, "train": self.train, "max_length": self.max_length}

    @property
    def pretrains(self) -> str | None:
        """Nothing is left to be trained when the start is asked for."""
        return None

    def without_pretraining(self, pretrain: bool | None, preset: str) -> "TextModel":
        """From random weights if that is asked for."""
        del preset
        return dataclasses.replace(self, from_scratch=pretrain is False)

    def training(self, train: str | None) -> "TextModel":
        """With another choice of what is trained."""
        return self if train is None else dataclasses.replace(self, train=train)


def rebuilt(config: dict[str, Any], tokenizer: Path) -> Any:
    """The network of a run from its `resolved.yaml`, as `Pretrained` without weights.

    Args:
      config: What `Problem.config` said.
      tokenizer: The folder that the run keeps it in.

    Raises:
      ValueError: The tokenizer is missing or broken.
    """
    from trustml.models.config import ModelConfig
    from trustml.models.language import build_language_model
    from trustml.models.pretrained import Pretrained
    from trustml.models.text_tokenizer import TextTokenizer

    sizes, rank = ModelConfig.from_hf(config["model"]), config["lora_rank"]
    sizes = dataclasses.replace(sizes, labels=tuple(config["labels"]), tags=tuple(config["tags"]))
    options = Options(lora=None if rank is None else Lora(rank=rank))
    network = build_language_model(
        sizes, config["task"], labels=sizes.labels, tags=sizes.tags, options=options
    )
    kept = TextTokenizer.from_folder(tokenizer)
    return Pretrained(network, None, sizes, kept, (), config["task"], options)


def _progress(done: int, steps: int, loss: float) -> None:
    end = "\n" if done == steps else ""
    line = f"\rmaking a small model from public text, once: step {done} of {steps}, loss {loss:.2f}"
    print(line, end=end, file=sys.stderr, flush=True)
