"""Files of a tokenizer that contradict each other, or say what is not known, are refused."""

import json

import pytest

from trustml.models.pretrained.hub import FILES
from trustml.models.tokenizers.text_tokenizer import TextTokenizer

TEXTS = ["the cat sat on the mat", "a dog, a cat and a mat", "the dog sat; the cat ran"] * 5


def folder_of(at, kind="wordpiece", *, whole=True, **files):
    """A trained tokenizer in `at`; `files` are JSON to be written beside it or over it."""
    made = TextTokenizer.train(TEXTS, 300, kind)
    made.save(at)
    if not whole:
        vocabulary = sorted(made.model.get_vocab(), key=made.model.get_vocab().get)
        (at / "vocab.txt").write_text("\n".join(vocabulary))
        (at / "tokenizer.json").unlink()
    for name, content in files.items():
        (at / f"{name}.json").write_text(json.dumps(content))
    return made


def test_options_beside_tokenizer_json_count(tmp_path):
    cased = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    made = folder_of(tmp_path, tokenizer_config=cased)
    found = TextTokenizer.from_folder(tmp_path)
    assert made.encode("THE cat").ids == made.encode("the cat").ids
    assert found.encode("THE cat").ids[1] == found.unk_id
    assert found.encode("the cat").ids == made.encode("the cat").ids


def test_the_side_that_is_cut_is_that_of_the_options(tmp_path):
    made = folder_of(tmp_path, tokenizer_config={"truncation_side": "left", "model_max_length": 9})
    found = TextTokenizer.from_folder(tmp_path)
    ids = made.encode("the cat sat on the mat").ids
    assert found.encode("the cat sat on the mat", max_length=5).ids == [ids[0], *ids[-4:]]
    words = ["the", "cat", "sat", "on", "the", "mat"]
    assert found.encode_words(words, max_length=5).ids == [ids[0], *ids[-4:]]
    assert found.model_max_length == 9
    found.save(tmp_path / "again")
    again = TextTokenizer.from_folder(tmp_path / "again")
    assert (again.truncation_side, again.model_max_length) == ("left", 9)


def test_a_class_that_is_not_known_is_refused(tmp_path):
    folder_of(tmp_path, tokenizer_config={"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(ValueError, match=r"`tokenizer_class` of .*got BertJapaneseTokenizer. Wh"):
        TextTokenizer.from_folder(tmp_path)


def test_a_vocabulary_of_another_kind_than_its_class_is_refused(tmp_path):
    folder_of(tmp_path, tokenizer_config={"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(ValueError, match=r"must hold a vocabulary of BPE, .* got WordPiece"):
        TextTokenizer.from_folder(tmp_path)


def test_an_id_that_the_vocabulary_does_not_give_is_refused(tmp_path):
    made = folder_of(tmp_path, whole=False, tokenizer_config={"tokenizer_class": "BertTokenizer"})
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<e>": made.vocab_size}))
    assert TextTokenizer.from_folder(tmp_path).encode("<e>").ids[1] == made.vocab_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<e>": made.vocab_size + 3}))
    with pytest.raises(ValueError, match=rf"'<e>' must have the id {made.vocab_size + 3}"):
        TextTokenizer.from_folder(tmp_path)


def test_a_vocabulary_without_the_unknown_token_is_refused(tmp_path):
    options = {"tokenizer_class": "BertTokenizer", "unk_token": "<none>"}
    folder_of(tmp_path, whole=False, tokenizer_config=options)
    with pytest.raises(ValueError, match="`unk_token` must be in the vocabulary, got '<none>'"):
        TextTokenizer.from_folder(tmp_path)


def test_files_of_the_tokenizer_are_downloaded():
    known = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert known | {"added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"} <= set(FILES)


@pytest.mark.parametrize("name", ["tokenizer_config", "special_tokens_map", "added_tokens"])
def test_a_file_that_is_no_json_is_refused(tmp_path, name):
    folder_of(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / f"{name}.json").write_text("[")
    with pytest.raises(ValueError, match=rf"{name}.json must be a readable JSON file"):
        TextTokenizer.from_folder(tmp_path)
