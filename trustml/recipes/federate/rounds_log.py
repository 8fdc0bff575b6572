"""What each round took: clients, examples, virtual time. Private quantities."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from trustml.strict_json import dumps
from trustml.training.fit import StepEvent
from trustml.training.runs.files import write_text
from trustml.training.runs.metrics_log import read_lines


class RoundCost(NamedTuple):
    """What one round took."""

    round: int  # from 1
    answers: int  # clients whose update counted
    lost: int  # clients that were chosen in vain
    examples: int  # that those who answered went through
    seconds: float | None  # virtual time of devices; None where there is none


class RoundsLog:
    """A callback of `trustml.fit` that keeps what each round took in a file of JSON lines.

    Args:
      path: The file. Rounds that are in it are known; one that is repeated replaces its line.
      visits: Examples that each client goes through in a round.
      stays: Probability that a drawn client takes part; below 1 the counts are expected ones.
    """

    def __init__(
        self,
        path: Path,
        visits: Int[np.ndarray, " client"],
        stays: Float64[np.ndarray, " client"],
    ):
        found = read_lines(path) if path.exists() else []
        self._found = {one["round"]: RoundCost(**_plain(one)) for one in found}
        self._path, self._visits, self._stays = path, visits * stays, stays
        self._rewrite()  # without a line that was cut off
        self._file = path.open("a")

    def __call__(self, event: StepEvent) -> None:
        """Notes one round."""
        draw = event.draw
        places = np.asarray(draw.indices)[np.asarray(draw.group) >= 0]
        seconds = getattr(draw, "seconds", np.nan)
        cost = RoundCost(
            event.step,
            round(float(self._stays[places].sum())),
            getattr(draw, "lost", 0),
            round(float(self._visits[places].sum())),
            float(seconds) if np.isfinite(seconds) else None,
        )
        self._found[event.step] = cost
        self._file.write(_line(cost))
        self._file.flush()

    def costs(self, last: int) -> list[RoundCost]:
        """The rounds up to `last`, in order."""
        return [self._found[number] for number in sorted(self._found) if number <= last]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._rewrite()

    def _rewrite(self) -> None:
        """One line a round, in order."""
        lines = [_line(self._found[number]) for number in sorted(self._found)]
        write_text(self._path, "".join(lines))


def _line(cost: RoundCost) -> str:
    return dumps({**cost._asdict(), "private": True}) + "\n"


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in RoundCost._fields}
