"""What the commands share that carry out a run in a folder: `train` and `federate`."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustml.cli import flags
from trustml.cli.options import show_json
from trustml.recipes.settings import Settings, knob, settings
from trustml.recipes.yaml_files import read_yaml


@settings
class RunCall(Settings):
    """What one call takes beside the settings of its run."""

    file: str | None = knob(
        None, "file of your own rows, as --data", "data", metavar="FILE", positional=True
    )
    config: Path | None = knob(None, "YAML file of these settings", "run", metavar="FILE")
    out: Path | None = knob(
        None, "new folder", "run", shown="the next free runs/DATA-N", metavar="FOLDER"
    )
    resume: Path | None = knob(None, "go on with a run", "run", metavar="FOLDER")
    accept_charge: bool = knob(
        False, "let a resumed run take a new key even where that charges much twice", "run"
    )
    quiet: bool = knob(False, "no progress", "run")
    json: bool = knob(False, "print the result as JSON", "run")


class RunCommand(NamedTuple):
    """A command that begins runs and goes on with them."""

    name: str
    about: str  # of its help
    table: Any  # the settings of a run
    begin: Callable  # (config, out, written=, command=, quiet=) -> TrainResult
    resume: Callable  # (folder, changes, quiet=, accept_charge=) -> TrainResult
    show: Callable[[Any], None]  # prints a report

    def __call__(self, arguments: Sequence[str]) -> int:
        """Carries out a call: trains, prints and writes."""
        from trustml.report import to_json

        tables = [RunCall, self.table]
        prog = f"trustml {self.name}"
        options, given = flags.parse(tables, arguments, prog=prog, about=self.about)
        call = RunCall.from_dict(options, "the flags")
        if call.file is not None:
            if "data" in given:
                raise ValueError(f"`--data` {given['data']} cannot go with {call.file}: give one.")
            given["data"] = call.file
        if call.resume is None:
            result = self._begun(call, given, shlex.join(["trustml", self.name, *arguments]))
        else:
            result = self._resumed(call.resume, call, given)
        if call.json:
            show_json(to_json(result.report))
            return 0
        self.show(result.report)
        print(f"\nIn {result.folder}: report.html, report.json (private quantities), the weights.")
        return 0

    def _begun(self, call: RunCall, given: dict[str, Any], command: str) -> Any:
        file = {} if call.config is None else read_yaml(call.config)
        if call.config is not None:  # a wrong name there must not be blamed on the flags
            self.table.from_dict(file, str(call.config))
        written = {**file, **given}
        config = self.table.from_dict(written, "the flags")
        return self.begin(config, call.out, written=written, command=command, quiet=call.quiet)

    def _resumed(self, folder: Path, call: RunCall, given: dict[str, Any]) -> Any:
        for name in ("config", "out"):
            if getattr(call, name) is not None:
                raise ValueError(f"`--{name}` cannot go with `--resume`: the run has its settings.")
        return self.resume(folder, given, quiet=call.quiet, accept_charge=call.accept_charge)
