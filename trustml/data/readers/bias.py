"""Words and templates to build tests from: gendered words, identity terms, HONEST, BOLD."""

from typing import NamedTuple

from trustml.data.catalogue import Entry
from trustml.data.content import Content, read_json, read_lines, read_table, take
from trustml.data.errors import DataError
from trustml.data.readers.raw_items import OpenFile, RawItems


class WordPair(NamedTuple):
    """Two words that differ in gender; which is which depends on the list."""

    first: str
    second: str
    listed: str  # the file's list that it comes from


class Term(NamedTuple):
    """A word for people of a group."""

    attribute: str  # "age", "gender", ...
    term: str
    group: str
    speech: str  # "n", "adj" or "pp"; empty where the list does not say


class Template(NamedTuple):
    """A sentence with a blank: `{...}` or `[M]`."""

    family: str
    text: str
    identity: str = ""  # who the sentence is on, where it is fixed
    category: str = ""
    number: str = ""  # "singular" or "plural"
    kind: str = ""


class Prompt(NamedTuple):
    """The beginning of a sentence to be continued (BOLD)."""

    domain: str
    group: str
    entity: str
    text: str


class Descriptor(NamedTuple):
    """A word for people on an axis (HolisticBias)."""

    axis: str
    bucket: str
    text: str
    preference: str  # "dispreferred", "polarizing", "reviewed" or empty


_PAIRS = {
    "definitional": "debiaswe_definitional_pairs.json",
    "equalize": "debiaswe_equalize_pairs.json",
    "swaps": "winobias_generalized_swaps.txt",
    "extra": "winobias_extra_gendered_words.txt",
}


def _read_gender_words(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `WordPair`; lists "specific", "specific_seed" and "professions".

    The pairs "glove" are (male, female), "swaps" goes both ways. A profession is (word, how
    gendered by definition, how by stereotype), from -1 for female to 1 for male.
    """
    del entry
    rows = []
    for listed, name in _PAIRS.items():
        content = open_file(name)
        rows += [WordPair(first, second, listed) for first, second in _pairs(content)]
    male, female = (
        [line.strip() for _, line in read_lines(open_file(f"gn_glove_{sex}_word_file.txt"))]
        for sex in ("male", "female")
    )
    if len(male) != len(female):
        raise DataError(f"gn_glove: {len(male)} male and {len(female)} female words, must agree.")
    rows += [WordPair(*pair, listed="glove") for pair in zip(male, female, strict=True)]
    lists: dict[str, tuple] = {
        "specific": tuple(read_json(open_file("debiaswe_gender_specific_full.json"))),
        "specific_seed": tuple(read_json(open_file("debiaswe_gender_specific_seed.json"))),
        "professions": tuple(
            (word, float(definitional), float(stereotypical))
            for word, definitional, stereotypical in read_json(
                open_file("debiaswe_professions.json")
            )
        ),
    }
    return RawItems(rows, lists)


def _pairs(content: Content):
    if content.path.removesuffix(".gz").endswith(".json"):
        listed = [(content.path, pair) for pair in read_json(content)]
    else:
        listed = [(location, line.split("\t")) for location, line in read_lines(content)]
    for location, pair in listed:
        if len(pair) != 2 or not all(isinstance(word, str) and word.strip() for word in pair):
            raise DataError(f"{location}: must be two words, got {pair!r:.60}.")
        yield tuple(word.strip() for word in pair)


def _read_identity_terms(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Term`; lists "templates" of `Template`, and given names by file.

    A country's group is its continent, and both its name ("n") and its adjective ("adj") count.
    """
    rows: list[Term] = []
    lists: dict[str, tuple] = {"templates": ()}
    for file in entry.files:
        folder, _, name = file.name.rpartition("/")
        stem = name.partition(".")[0]
        if folder == "templates":
            lists["templates"] += tuple(_templates(open_file(file.name), stem))
        elif folder:
            lines = read_lines(open_file(file.name))
            lists[stem] = tuple(line.strip() for _, line in lines if line.strip())
        elif name.endswith(".csv"):
            rows += _terms(open_file(file.name), stem)
    return RawItems(rows, lists)


def _columns(content: Content):
    """Each row of a CSV file as a dict by its header, with its location."""
    width = content.text.partition("\n")[0].count(",") + 1
    rows = read_table(content, width)
    _, header = next(rows)
    for location, row in rows:
        yield location, dict(zip(header, row, strict=True))


def _terms(content: Content, attribute: str):
    for location, row in _columns(content):
        term = take(row, "TERM", location)
        if attribute == "countries":
            group = take(row, "CONTINENT", location)
            yield Term("nationality", term, group, "n")
            yield Term("nationality", take(row, "COUNTRY_ADJ", location), group, "adj")
        else:
            yield Term(attribute, term, take(row, "GROUP", location), row.get("POS", ""))


def _templates(content: Content, stem: str):
    for location, row in _columns(content):
        text = take(row, "TEMPLATE", location)
        yield Template(stem.removesuffix("_templates"), text.strip(), kind=row.get("SENT", ""))


def _read_honest(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Template`, of the families "binary" and "queer_nonqueer"."""
    rows = []
    for file in entry.files:
        family = file.name.removesuffix("_en_template.tsv")
        lines = read_lines(open_file(file.name))
        location, first = next(lines)
        header = first.split("\t")
        if set(header) < {"template_masked", "identity", "category", "number", "type"}:
            raise DataError(f"{location}: the header lacks a column, got {first!r:.90}.")
        for location, line in lines:
            if len(fields := line.split("\t")) != len(header):
                raise DataError(f"{location}: {len(fields)} fields, must be {len(header)}.")
            row = dict(zip(header, fields, strict=True))
            rest = (row[name] for name in ("identity", "category", "number", "type"))
            rows.append(Template(family, row["template_masked"], *rest))
    return RawItems(rows)


def _read_bold(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Prompt`."""
    rows = []
    for file in entry.files:
        domain = file.name.removesuffix("_prompt.json")
        content = open_file(file.name)
        for group, entities in read_json(content).items():
            for entity, prompts in entities.items():
                if not (
                    isinstance(prompts, list) and all(isinstance(each, str) for each in prompts)
                ):
                    raise DataError(f"{content.path}: {entity!r} must list prompts.")
                rows += [Prompt(domain, group, entity, text) for text in prompts]
    return RawItems(rows)


def _read_holistic_bias(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Descriptor`; lists "templates" and "phrases", and nouns by gender.

    A noun is (singular, plural).
    """
    del entry
    rows = []
    content = open_file("descriptors.json")
    for axis, buckets in read_json(content).items():
        for bucket, described in buckets.items():
            for each in described:
                value = {"descriptor": each} if isinstance(each, str) else each
                text = take(value, "descriptor", f"{content.path}, {axis} {bucket}")
                rows.append(Descriptor(axis, bucket, text, value.get("preference", "")))
    lists: dict[str, tuple] = {
        "templates": tuple(
            Template("holistic_bias", text)
            for text in read_json(open_file("sentence_templates.json"))
        ),
        "phrases": tuple(
            Descriptor(
                axis,
                "",
                each if isinstance(each, str) else each["noun_phrase"],
                "" if isinstance(each, str) else each.get("preference", ""),
            )
            for axis, phrases in read_json(open_file("standalone_noun_phrases.json")).items()
            for each in phrases
        ),
    }
    for gender, nouns in read_json(open_file("nouns.json")).items():
        lists[gender] = tuple((singular, plural) for singular, plural in nouns)
    return RawItems(rows, lists)


READERS = {
    "gender_words": _read_gender_words,
    "identity_terms": _read_identity_terms,
    "honest": _read_honest,
    "bold": _read_bold,
    "holistic_bias": _read_holistic_bias,
}
