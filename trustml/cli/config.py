"""The typed settings of `trustml train`, and how flags change a preset."""

import argparse
import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One call of `trustml train`. None means: as the preset has it.

    Args:
      data: "synthetic" or "snips".
      data_dir: Folder with the data; else TRUSTML_DATA.
      download: Whether the publisher may be asked for the data.
      preset: Name of the settings; by default that of the data.
      model: "conv", "bilstm" or "transformer".
      epsilon: Privacy budget.
      delta: Privacy budget.
      batch: Expected rows per private step.
      steps: Private steps.
      clip_norm: Bound of one utterance's gradient.
      clipping: "flat" or "automatic".
      learning_rate: Of the private run.
      sampling: "poisson", "truncated_poisson" or "fixed".
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: "pld" or "rdp".
      strategy: How gradients are clipped.
      microbatch: Units computed at a time.
      baseline: Whether to train without privacy too.
      baseline_steps: Steps of the baseline.
      pretrain: Whether to start from weights trained on generated rows.
      on: The part to judge on, "test" or "valid".
      repeats: Runs, each with another seed.
      seed: None for secret randomness.
      out: Folder for the results.
      json: Whether to print the report as JSON.
      quiet: Whether to show no progress.
    """

    data: str
    data_dir: Path | None
    download: bool
    preset: str | None
    model: str | None
    epsilon: float | None
    delta: float | None
    batch: int | None
    steps: int | None
    clip_norm: float | None
    clipping: str
    learning_rate: float | None
    sampling: str
    adjacency: str
    accountant: str
    strategy: str
    microbatch: int | None
    baseline: bool
    baseline_steps: int | None
    pretrain: bool | None
    on: str
    repeats: int
    seed: int | None
    out: Path | None
    json: bool
    quiet: bool

    @classmethod
    def from_arguments(cls, chosen: argparse.Namespace) -> "TrainConfig":
        """The settings that flags gave."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(chosen, name) for name in names})

    def folder(self) -> Path:
        """The folder for results: the one asked for, which must be new, or the next free one.

        Raises:
          FileExistsError: The folder asked for holds a report.
        """
        if self.out is None:
            number = 1
            while Path("runs", f"{self.data}-{number}").exists():
                number += 1
            return Path("runs", f"{self.data}-{number}")
        if (self.out / "report.json").exists():
            raise FileExistsError(
                f"`--out` must be a new folder, got {self.out}, which holds a run."
            )
        if self.out.exists() and not self.out.is_dir():
            raise NotADirectoryError(f"`--out` must be a folder, got the file {self.out}.")
        return self.out


def changed(settings, **values):
    """A dataclass with the values that are not None replaced."""
    return dataclasses.replace(
        settings, **{name: value for name, value in values.items() if value is not None}
    )
