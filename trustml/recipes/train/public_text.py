"""Public text for the small language models of `trustml train`."""

from pathlib import Path

from trustml.data import load
from trustml.recipes.train.models import PublicData

TEXT = "wikitext2"  # training text of the small models
_UNPUBLISHED = "NOT the published"  # in the source of files with another checksum


def public_text(model: str, data: str, public: PublicData) -> tuple[list[str], str]:
    """Public text, and its source.

    Raises:
      ValueError: It is the training data itself, is missing, or differs from the published files.
    """
    if data == TEXT:
        raise ValueError(
            f"`--model` must not be {model} for the data {TEXT}, from which that model is made: "
            "what it learned of them is outside every guarantee. Name another model or other data."
        )
    folder = public.data_dir
    if folder is not None and not Path(folder, TEXT).is_dir():
        folder = None  # a folder of other data: look in TRUSTML_DATA
    try:
        parts = load(TEXT, folder, download=public.download)
    except ValueError as error:
        raise ValueError(f"`--model` {model} is made from {TEXT}: {error}") from None
    published = [part for part in parts if _UNPUBLISHED not in part.source]
    if not published:
        raise ValueError(
            f"`--model` {model} is made from {TEXT} as it was published, got other files. Name "
            "another model, or restore the files by `trustml data get`."
        )
    rows = [row.text for part in published for row in part.rows]
    return rows, "the public WikiText-2 (its valid and test parts)"
