"""The names of the files of a run: no other module spells one."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run. It names files and makes none.

    `trustml.fit` writes the first seven; `trustml train` and `trustml federate` add the others, and
    one folder of the same kind for the baseline and for each of several repeats.

    >>> folder = RunFolder(Path("runs/snips-1"))
    >>> folder.baseline.ledger.as_posix()
    'runs/snips-1/baseline/ledger.jsonl'
    >>> [one.path.name for one in folder.repeats(2)]
    ['repeat-1', 'repeat-2']

    Args:
      path: The folder itself.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)  # messages name the folder

    @property
    def ledger(self) -> Path:
        """Every release, written ahead of it; see `trustml.training.runs.ledger`."""
        return self.path / "ledger.jsonl"

    @property
    def plan(self) -> Path:
        """The plan that was asked for. Public."""
        return self.path / "plan.json"

    @property
    def metrics(self) -> Path:
        """Losses, norms and evaluations. Private quantities."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trained weights and optimizer state, one checkpoint a step number."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """All weights at the end. Of a private training the plan's promise covers them."""
        return self.path / "weights.safetensors"

    @property
    def secret(self) -> Path:
        """Folder of the keys while the run lasts. Who reads it can subtract the noise."""
        return self.path / "secret"

    @property
    def keys(self) -> Path:
        """The noise key and the sampler's secret."""
        return self.secret / "keys.json"

    @property
    def config(self) -> Path:
        """The settings as the caller wrote them."""
        return self.path / "config.yaml"

    @property
    def resolved(self) -> Path:
        """The settings in full, with what follows from them; a resumed run reads it."""
        return self.path / "resolved.yaml"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer of a language model."""
        return self.path / "tokenizer"

    @property
    def schema(self) -> Path:
        """The schema of a table: as given, or as it was learned within the budget."""
        return self.path / "schema.toml"

    @property
    def canaries(self) -> Path:
        """The units and canaries that a coin put into the training. Private."""
        return self.path / "canaries.json"

    @property
    def partition(self) -> Path:
        """Which client of a federated run each row belongs to. Private where rows are natural."""
        return self.path / "partition.json"

    @property
    def rounds(self) -> Path:
        """Clients and examples of each federated round. Private quantities."""
        return self.path / "rounds.jsonl"

    @property
    def start(self) -> Path:
        """Weights that the training starts from, while the run lasts."""
        return self.path / "start.safetensors"

    @property
    def report(self) -> Path:
        """The trust report as JSON; with it the run has ended. Private quantities."""
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        """The trust report as a page. Private quantities."""
        return self.path / "report.html"

    @property
    def baseline(self) -> "RunFolder":
        """The folder of the training without privacy."""
        return RunFolder(self.path / "baseline")

    def repeats(self, number: int) -> list["RunFolder"]:
        """One folder for each of `number` private trainings; one alone takes this folder."""
        if number == 1:
            return [self]
        return [RunFolder(self.path / f"repeat-{turn}") for turn in range(1, number + 1)]

    def periods(self, number: int) -> list["RunFolder"]:
        """One folder for each of `number` periods of a federated run; one alone takes this one."""
        if number == 1:
            return [self]
        return [RunFolder(self.path / f"period-{turn}") for turn in range(1, number + 1)]

    def trainings(self) -> list["RunFolder"]:
        """The private trainings that are here: those of `repeats` that have a ledger."""
        if self.ledger.exists():
            return [self]
        ledgers = self.path.glob(f"repeat-*/{self.ledger.name}")
        return [RunFolder(path.parent) for path in sorted(ledgers)]

    def holds_run(self) -> bool:
        """Whether `trustml train` or `trustml federate` began a run here."""
        return self.resolved.exists() or self.report.exists()
