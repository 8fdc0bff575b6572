"""From a publisher's files to the layout that the loaders read.

Each converter was written from the publisher's layout. The checksum of the result decides: it is
that of the rows as they were converted once, so a converter that errs is refused, not used.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable

from trustml.data.catalogue import DataFile
from trustml.data.errors import DataError
from trustml.data.readers.schemas import HWU64
from trustml.strict_json import dumps

_SLOT = re.compile(r"\[\s*([^:\]]+?)\s*:\s*([^\]]*?)\s*\]")
# A handle is a word behind an @ that no word precedes: addresses of mail stay.
_HANDLE = re.compile(r"(?<!\w)@\w+")


def publisher_paths(folder: str, file: DataFile) -> tuple[str, ...]:
    """Paths in the publisher's repository whose files make up `file`; empty where unknown."""
    if "*" in file.path:
        names = HWU64.labels if folder == "hwu64" else ()
        return tuple(file.path.replace("*", name) for name in names)
    if file.publisher == "-" or ";" in file.path or ";" in file.publisher:
        return ()
    several = re.fullmatch(r"(.*)\{(.*)\}(.*)", file.path)
    if several is None:
        return (file.path,)
    before, listed, after = several.groups()
    return tuple(f"{before}{name}{after}" for name in listed.split(","))


def convert(folder: str, file: DataFile, parts: list[bytes]) -> bytes:
    """The content of `file` from the publisher's files, in the order of `publisher_paths`.

    Raises:
      DataError: They do not have the publisher's layout.
    """
    converter = _CONVERTERS.get(folder, _CONVERTERS.get(f"{folder}/{file.name}"))
    try:
        if converter is not None:
            return converter(parts)
        if file.path.endswith(".gz"):
            return gzip.decompress(parts[0])
    except DataError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{folder}/{file.name}: the publisher's file has another layout than expected "
            f"({type(error).__name__}: {error})."
        ) from None
    return parts[0]


def _snips(parts: list[bytes]) -> bytes:
    """Files of labels, tokens and tags, one row a line, into rows of the three."""
    columns = [part.decode("utf-8").removesuffix("\n").split("\n") for part in parts]
    if len({len(column) for column in columns}) != 1:
        lengths = ", ".join(str(len(column)) for column in columns)
        raise DataError(f"snips: label, seq.in and seq.out have {lengths} lines, not as many.")
    rows = ("\t".join(field.rstrip() for field in row) for row in zip(*columns, strict=True))
    return "".join(f"{row}\n" for row in rows).encode()


def _hwu64(parts: list[bytes]) -> bytes:
    """`answerid;scenario;intent;answer_annotation;...` into intent, tokens, tags, answerid."""
    rows = []
    for part in parts:
        for line in part.decode("utf-8").split("\n")[1:]:
            if not line.strip():
                continue
            answer, scenario, intent, annotation = line.split(";")[:4]
            tokens, tags = _annotated(annotation.strip().strip('"'))
            rows.append("\t".join([f"{scenario}_{intent}", tokens, tags, answer]))
    return "".join(f"{row}\n" for row in rows).encode()


def _annotated(text: str) -> tuple[str, str]:
    """`wake me at [time : five am]` into its tokens and BIO tags."""
    tokens: list[str] = []
    tags: list[str] = []
    end = 0
    for match in _SLOT.finditer(text):
        before, words = text[end : match.start()].split(), match[2].split()
        tokens += [*before, *words]
        tags += ["O"] * len(before)
        tags += [f"{'I' if index else 'B'}-{match[1]}" for index in range(len(words))]
        end = match.end()
    rest = text[end:].split()
    return " ".join([*tokens, *rest]), " ".join([*tags, *["O"] * len(rest)])


def _davidson(parts: list[bytes]) -> bytes:
    """Handles are replaced: they name people."""
    return _HANDLE.sub("@USER", parts[0].decode("utf-8")).encode()


def _stereoset(parts: list[bytes]) -> bytes:
    """Three lists into one row for each identifier, in the order of the first list."""
    lists = json.loads(parts[0])
    stereotypes, others = (
        {each["id"]: each["sentence"] for each in lists[name]}
        for name in ("stereotype", "unrelated")
    )
    rows = []
    for anti in lists["anti-stereotype"]:
        row = {
            "id": anti["id"],
            "kind": "intrasentence" if "BLANK" in anti["context"] else "intersentence",
            "bias_type": anti["bias_type"],
            "target": anti["target"],
            "context": anti["context"],
            "stereotype": stereotypes[anti["id"]],
            "anti_stereotype": anti["sentence"],
            "unrelated": others[anti["id"]],
        }
        rows.append(dumps(row, ascii_only=False))
    return "".join(f"{row}\n" for row in rows).encode()


def _vectors(parts: list[bytes]) -> bytes:
    """`var wordVecs={"in":[0.05,...],...}` into lines of a word and its numbers."""
    text = parts[0].decode("utf-8")
    words = json.loads(text[text.index("{") : text.rindex("}") + 1])
    rows = (" ".join([word, *(f"{value:g}" for value in row)]) for word, row in words.items())
    return "".join(f"{row}\n" for row in rows).encode()


_CONVERTERS: dict[str, Callable[[list[bytes]], bytes]] = {
    "snips": _snips,
    "hwu64": _hwu64,
    "davidson_hate": _davidson,
    "stereoset": _stereoset,
    "word_vectors/gnews_top1000_300d.txt": _vectors,
}
