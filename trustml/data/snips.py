"""The SNIPS voice-assistant corpus, in the split that the SlotGated paper published.

The rows come from a folder that the user names, or from the publisher by download. Either way the
checksum of each part is compared with the published split's; `Corpus.source` says the outcome.
There is no third way: without a folder and without the download, loading fails.

What was verified: the checksums below were computed on a copy of the three parts taken from the
publisher's repository, and the download path is tested against a local server. The publisher's own
address was not reached when this was written; a file that differs is refused, not used.

References:
  Coucke et al., Snips Voice Platform, 2018 (the corpus, CC0 1.0). Goo et al., Slot-Gated Modeling
  for Joint Slot Filling and Intent Prediction, 2018 (the split).
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from trustml.data import synthetic
from trustml.data.corpus import Corpus, DataError, Schema, Splits, read_rows
from trustml.data.transfer import cache_folder, retrieve

COMMIT = "61f0307c72"
PUBLISHER = f"https://raw.githubusercontent.com/MiuLab/SlotGated-SLU/{COMMIT}/data/snips"
PARTS = ("train", "valid", "test")
# Of the rows `label TAB seq.in TAB seq.out`, each field stripped at its end, one line feed a row.
SHA256 = {
    "train": "7b8e14532aa2465e3886e7bc6c7fa0974a01230553a5cfe928374ec9089ca934",
    "valid": "6bf6c40d863abc39a5b44b61cd972e9db6b4c8b750597ebeb71001f12b8be123",
    "test": "301a74882a11e1c21287a4a895ad97db5c925e528c40aec11e97ecdd6b0b9391",
}
# The corpus's published schema: written down here, so that no label is read off private rows.
SCHEMA = Schema(
    intents=(
        "AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook",
        "SearchCreativeWork", "SearchScreeningEvent",
    ),
    slots=(
        "album", "artist", "best_rating", "city", "condition_description",
        "condition_temperature", "country", "cuisine", "current_location", "entity_name",
        "facility", "genre", "geographic_poi", "location_name", "movie_name", "movie_type",
        "music_item", "object_location_type", "object_name", "object_part_of_series_type",
        "object_select", "object_type", "party_size_description", "party_size_number", "playlist",
        "playlist_owner", "poi", "rating_unit", "rating_value", "restaurant_name",
        "restaurant_type", "served_dish", "service", "sort", "spatial_relation", "state",
        "timeRange", "track", "year",
    ),
)  # fmt: skip

# The grammar's intent behind each of the schema's; slots already share their names.
_GRAMMAR = {
    "AddToPlaylist": "add_to_playlist",
    "BookRestaurant": "book_restaurant",
    "GetWeather": "get_weather",
    "PlayMusic": "play_music",
    "RateBook": "rate_item",
    "SearchCreativeWork": "search_work",
    "SearchScreeningEvent": "find_screening",
}


def generated(rows: int, *, seed: int = 0) -> Corpus:
    """Synthetic rows under the labels of SNIPS, to pretrain on before private rows are touched.

    They come from the package's grammar and hold no row of SNIPS, but the grammar's authors know
    that corpus: see `trustml.data.grammar` on what this means for data of your own.

    >>> generated(3).synthetic
    True
    """
    corpus = synthetic.generate(
        train=rows, valid=1, test=1, seed=seed, intents=tuple(_GRAMMAR.values())
    ).train
    names = {grammar: intent for intent, grammar in _GRAMMAR.items()}
    return Corpus(
        name="synthetic",
        intents=SCHEMA.intents,
        slots=SCHEMA.slots,
        utterances=tuple(
            row._replace(intent=names[row.intent], group=0) for row in corpus.utterances
        ),
        synthetic=True,
        source=f"synthetic, {rows} rows generated under the labels of SNIPS",
    )


def load_folder(folder: Path) -> Splits:
    """Reads `train.tsv`, `valid.tsv` and `test.tsv` of `folder`.

    Rows that are not the published ones are read too, as long as they keep to the schema:
    `Corpus.source` then says that they are not the published split.

    Raises:
      DataError: A missing, empty or malformed file; the message gives file and line.
    """
    return Splits(*(_read(part, Path(folder) / f"{part}.tsv") for part in PARTS))


def download(
    cache: Path | None = None,
    *,
    publisher: str = PUBLISHER,
    checksums: dict[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Fetches the published split into a folder and returns the folder; a second call reuses it.

    A part is written only once its rows have the expected checksum, and then in one step, so an
    interrupted download leaves nothing half-written.

    Args:
      cache: Folder to keep the files in; by default `~/.cache/trustml/snips`.
      publisher: Address above `train/label`, `train/seq.in`, `train/seq.out` and so on.
      checksums: SHA-256 of each part's combined rows; by default the published split's.
      progress: Called with one line per file; by default it prints to standard error.

    Raises:
      DataError: The publisher cannot be reached, or sent something else.
    """
    folder = Path(cache) if cache is not None else cache_folder() / "snips"
    say = progress or (lambda line: print(line, file=sys.stderr))
    expected = SHA256 if checksums is None else checksums
    for part in PARTS:
        target = folder / f"{part}.tsv"
        if target.exists() and _checksum(target.read_bytes()) == expected[part]:
            continue
        columns = []
        for place, name in enumerate(("label", "seq.in", "seq.out"), 1):
            say(f"snips {part}: file {place} of 3, {publisher}/{part}/{name}")
            columns.append(_lines(f"{publisher}/{part}/{name}"))
        _write(target, combine(columns, f"{publisher}/{part}"), expected[part])
    return folder


def _read(part: str, path: Path) -> Corpus:
    rows = read_rows(path, SCHEMA)
    matches = _checksum(path.read_bytes()) == SHA256[part]
    verdict = "checksum of the published split" if matches else "NOT the published split"
    return Corpus(
        name="snips",
        intents=SCHEMA.intents,
        slots=SCHEMA.slots,
        utterances=rows,
        source=f"SNIPS {part}, {len(rows)} rows, {verdict}",
    )


def _lines(address: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = retrieve(address, Path(folder) / "partial")
        except DataError as error:
            raise DataError(
                f"{error} Give `data_dir`, or set TRUSTML_DATA to a folder that contains "
                "snips/train.tsv, snips/valid.tsv and snips/test.tsv."
            ) from None
    return content.decode("utf-8").removesuffix("\n").split("\n")


def combine(columns: list[list[str]], address: str) -> bytes:
    """Rows of label, seq.in and seq.out from the publisher's three files of one part.

    Args:
      columns: The lines of each file.
      address: Where they come from, for the message if their numbers differ.
    """
    if len({len(column) for column in columns}) != 1:
        lengths = ", ".join(str(len(column)) for column in columns)
        raise DataError(f"{address}: label, seq.in and seq.out have {lengths} lines, not as many.")
    rows = ("\t".join(field.rstrip() for field in row) for row in zip(*columns, strict=True))
    return "".join(f"{row}\n" for row in rows).encode()


def _write(target: Path, content: bytes, expected: str) -> None:
    found = _checksum(content)
    if found != expected:
        raise DataError(
            f"{target.name}: the download has SHA-256 {found}, must be {expected}; "
            "the publisher's files are not those of the published split."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".part{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(target)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
