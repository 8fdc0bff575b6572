"""Which pretrained models there are, and whether they are the published ones."""

from collections.abc import Sequence
from pathlib import Path

from trustml.cli import flags
from trustml.cli.options import Output, show_files_check, show_json
from trustml.models.pretrained.registry import install_advice
from trustml.recipes.models import ListedModel, check_models, get_model, list_models
from trustml.recipes.settings import REQUIRED, knob, settings

_ABOUT = """\
Lists the pretrained models that `--model` takes by name, with licence, size and whether they are
installed, fetches one from its publisher, or checks files against the published checksums. A model
of this list is used only if every file has its checksum. `--model` also takes a folder of
transformers or of sentence-transformers, or a GGUF file; those are not checked.

examples:
  trustml models list
  trustml models fetch minilm
  trustml models check"""


@settings
class _ListCall(Output):
    """How the models are listed."""


@settings
class _FetchCall(Output):
    """Which model is fetched, and how."""

    name: str = knob(REQUIRED, "name of the model", positional=True)
    out: Path | None = knob(None, "folder to put its files in", shown="the cache", metavar="FOLDER")
    publisher: str | None = knob(
        None, "address of a mirror of its files", flag="--from", metavar="ADDRESS"
    )
    timeout: float = knob(30.0, "seconds without an answer")


@settings
class _CheckCall(Output):
    """Which files are compared with the published checksums."""

    name: str | None = knob(None, "one model", shown="all that are installed", positional=True)
    folder: Path | None = knob(
        None, "folder of its files", shown="where it is installed", metavar="FOLDER"
    )


def _list(arguments: Sequence[str]) -> int:
    """Every model, and whether it is installed."""
    call = flags.parse_one(_ListCall, arguments, prog="trustml models list", about=_list.__doc__)
    models = list_models()
    if call.json:
        show_json([listed.to_dict() for listed in models])
        return 0
    for listed in models:
        _show_model(listed)
    return 0


def _fetch(arguments: Sequence[str]) -> int:
    """Fetch one from its publisher, verified."""
    call = flags.parse_one(_FetchCall, arguments, prog="trustml models fetch", about=_fetch.__doc__)
    model = get_model(call.name, call.out, publisher=call.publisher, timeout=call.timeout)
    if call.json:
        show_json(model.to_dict())
    else:
        verb = "is" if model.downloaded else "was"
        print(f"{model.name} {verb} in {model.folder}; every checksum is the published one.")
    return 0


def _check(arguments: Sequence[str]) -> int:
    """Compare files with the published checksums."""
    call = flags.parse_one(_CheckCall, arguments, prog="trustml models check", about=_check.__doc__)
    check = check_models(call.name, call.folder)
    if call.json:
        show_json(check.to_dict())
    else:
        show_files_check(check)
    return 0 if check.holds else 1


def _show_model(listed: ListedModel) -> None:
    entry = listed.entry
    where = "not installed" if listed.folder is None else f"in {listed.folder}"
    print(f"{entry.name}: {entry.title}")
    print(f"  {entry.architecture}; {entry.size / 1e6:.0f} MB; licence {entry.licence}")
    print(f"  {where}")
    if listed.folder is None:
        print(f"  {install_advice(entry)}")


_COMMANDS = {"list": _list, "fetch": _fetch, "check": _check}


def run(arguments: Sequence[str]) -> int:
    """Lists, fetches or checks."""
    return flags.run_command(_COMMANDS, arguments, prog="trustml models", about=_ABOUT)
