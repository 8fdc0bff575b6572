"""Data sets of assistant utterances and tokenisers; nothing here knows of privacy mechanisms."""

from trustml.data.corpus import Corpus as Corpus
from trustml.data.corpus import DataError as DataError
from trustml.data.corpus import Splits as Splits
from trustml.data.corpus import Utterance as Utterance
from trustml.data.corpus import encode as encode
from trustml.data.loading import load as load
from trustml.data.tokens import Tokenizer as Tokenizer
from trustml.data.tokens import hash_tokenizer as hash_tokenizer
from trustml.data.tokens import joined_tokenizer as joined_tokenizer
from trustml.data.tokens import listed_tokenizer as listed_tokenizer
from trustml.data.tokens import read_word_vectors as read_word_vectors
