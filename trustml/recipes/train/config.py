"""The typed settings of `trustml train`: defaults, a YAML file over them, flags over both."""

import argparse
import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from trustml.training.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One call of `trustml train`. None means: as the preset has it.

    Args:
      task: "classify", "tag", "nlu", "qa", "lm" or "seq2seq"; by default that of the data.
      data: Name of a data set; by default one for the task.
      data_dir: Folder with the data; else TRUSTML_DATA.
      download: Whether the publisher may be asked for the data.
      preset: Name of the settings; by default those of the data, or of the task.
      model: "conv", "bilstm" or "transformer" on hashed words; "mini-bert", "mini-gpt2" or
        "mini-bart"; or the folder or name of a pretrained model.
      trainable: Which parameters are trained: "all", "lora", "bitfit", "last-K" or a pattern.
      max_length: Pieces or words read of a row.
      unit: What the privacy unit is: a row, or what several rows share.
      max_examples_per_unit: Pieces of text kept of one unit.
      epsilon: Privacy budget.
      delta: Privacy budget.
      batch: Expected rows per private step.
      steps: Private steps.
      clip_norm: Bound of one utterance's gradient.
      clipping: "flat", "automatic" or "automatic_v".
      bounds: "flat" for one bound of the whole gradient, "layer" for one of each array, "block" for
        one of each top-level part.
      clip_quantile: Part of the units that adaptive bounds leave whole.
      num_microbatches: Means that a step bounds instead of units (eDP-SGD).
      noise: "independent", "discrete_gaussian", "tree", "toeplitz", "banded" or "blt".
      noise_memory: Copies of the weights that "banded" or "blt" noise keeps.
      noise_decay: Factor on the noise from epoch to epoch.
      cycle_length: Groups of "cyclic_poisson" sampling; by default as many as an epoch has steps.
      learning_rate: Of the private run.
      schedule: "cosine", "linear" or "constant", after the warm-up.
      warmup: Steps of rising learning rate.
      sampling: "poisson", "truncated_poisson", "fixed", "cyclic_poisson", "balls_in_bins" or
        "shuffled".
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: "pld" or "rdp".
      strategy: How gradients are clipped.
      physical_batch_size: Units computed at a time, or "auto".
      baseline: Whether to train without privacy too.
      baseline_steps: Steps of the baseline.
      baseline_learning_rate: Peak of the baseline.
      pretrain: Whether to start from weights trained on generated rows or on public text.
      audit_rows: Units that a coin each puts in or out, for the membership attack; 0 for none.
      audit: Whether to audit epsilon by mislabelled rows and gradient canaries too.
      audit_canaries: Gradient canaries of the audit.
      eval_split: The part to judge on, "test" or "valid".
      evaluate_every: Steps between evaluations on the validation part.
      patience: Evaluations on generated rows without a new best after which to stop.
      repeats: Runs, each with another seed.
      seed: None for secret randomness.
      checkpoint_every: Seconds between checkpoints.
      save_baseline: Whether the baseline's weights, a private quantity, are kept.
    """

    task: str | None = None
    data: str | None = None
    data_dir: str | None = None
    download: bool = False
    preset: str | None = None
    model: str | None = None
    trainable: str | None = None
    max_length: int | None = None
    unit: str | None = None
    max_examples_per_unit: int | None = None
    epsilon: float | None = None
    delta: float | None = None
    batch: int | None = None
    steps: int | None = None
    clip_norm: float | None = None
    clipping: str = "flat"
    bounds: str = "flat"
    clip_quantile: float | None = None
    num_microbatches: int = 0
    noise: str = "independent"
    noise_memory: int = 0
    noise_decay: float = 1.0
    cycle_length: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    warmup: int | None = None
    sampling: str = "poisson"
    adjacency: str = "add-or-remove-one"
    accountant: str = "pld"
    strategy: str = "auto"
    physical_batch_size: int | str = 256
    baseline: bool = True
    baseline_steps: int | None = None
    baseline_learning_rate: float | None = None
    pretrain: bool | None = None
    audit_rows: int | None = None
    audit: bool = False
    audit_canaries: int | None = None
    eval_split: str = "test"
    evaluate_every: int | None = None
    patience: int | None = None
    repeats: int = 1
    seed: int | None = None
    checkpoint_every: float = 60.0
    save_baseline: bool = False

    @classmethod
    def from_dict(cls, given: dict[str, Any], source: str) -> "TrainConfig":
        """Settings by name.

        Args:
          given: Those that differ from the defaults.
          source: Where they come from, for messages.

        Raises:
          ValueError: A name is unknown, or a value of the wrong kind.
        """
        hints = typing.get_type_hints(cls)
        for name, value in given.items():
            if name not in hints:
                raise ValueError(f"`{name}` is no setting, in {source}.{_nearest(name, hints)}")
            given = {**given, name: _of_kind(name, value, hints[name], source)}
            _check_range(name, given[name], source)
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Every setting."""
        return dataclasses.asdict(self)


def flags_given(chosen: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags gave; `add_arguments` leaves all others out."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return {name: value for name, value in vars(chosen).items() if name in names}


class _Loader(yaml.SafeLoader):
    """Refuses a name that occurs twice: YAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        """As the base does, after a look at the names."""
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the name {twice!r} occurs twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
      ValueError: It is missing, cut off or no mapping.
    """
    try:
        found = yaml.load(path.read_text(), _Loader)
    except OSError as error:
        raise ValueError(f"`{path}` must be a YAML file of settings: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"`{path}` must be a whole YAML file of settings: {line}.") from None
    found = {} if found is None else found
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"`{path}` must map names of settings to values, got {type(found).__name__}."
        )
    return {name.replace("-", "_"): value for name, value in found.items()}


def read_resolved(folder: Path) -> dict[str, Any]:
    """What `trustml train` wrote when a run began: settings, and what follows from them.

    Raises:
      ValueError: It is missing or not whole.
    """
    path = RunFolder(folder).resolved
    found = read_yaml(path)
    if found.get("whole") is not True:
        raise ValueError(
            f"`{path}` must be whole, got one that was cut off. Restore it from a "
            "backup: without it the settings of the run are not known."
        )
    return found


def to_yaml(values: dict[str, Any], head: str) -> str:
    """A YAML document that begins with a comment."""
    lines = "".join(f"# {line}\n" for line in head.splitlines())
    return lines + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def changed(settings, **values):
    """A dataclass with the values that are not None replaced."""
    return dataclasses.replace(
        settings, **{name: value for name, value in values.items() if value is not None}
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f" Did you mean `{close[0]}`?" if close else " `trustml train --help` names them."


def _check_range(name: str, value: Any, source: str) -> None:
    """What would show too late, when files are written already."""
    least = {"repeats": 1, "evaluate_every": 1, "patience": 1, "seed": 0, "warmup": 0}
    least |= {
        "checkpoint_every": 0,
        "audit_rows": 0,
        "physical_batch_size": 1,
        "max_examples_per_unit": 1,
    }
    if name in least and isinstance(value, int | float) and not value >= least[name]:
        raise ValueError(f"`{name}` must be at least {least[name]}, got {value!r}, in {source}.")


def _of_kind(name: str, value: Any, hint: Any, source: str) -> Any:
    """`value`, if it is of the kind that `hint` names."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) and float in allowed and str not in allowed:
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 1e-5, without a point, as text
    fits = type(value) in allowed or (whole and float in allowed)
    if not fits:
        words = " or ".join(kinds[kind] for kind in allowed if kind in kinds)
        raise ValueError(f"`{name}` must be {words}, got {value!r}, in {source}.")
    return value
