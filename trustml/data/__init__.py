"""Data sets by name, rows and tokenizers; nothing here knows of privacy mechanisms."""

from trustml.data.encoding import encode as encode
from trustml.data.errors import DataError as DataError
from trustml.data.examples import Examples as Examples
from trustml.data.examples import Splits as Splits
from trustml.data.fetching import fetch as fetch
from trustml.data.item_sets import Items as Items
from trustml.data.item_sets import load_items as load_items
from trustml.data.loading import load as load
from trustml.data.own_rows import from_rows as from_rows
from trustml.data.tokens import Tokenizer as Tokenizer
from trustml.data.tokens import hash_tokenizer as hash_tokenizer
from trustml.data.tokens import joined_tokenizer as joined_tokenizer
from trustml.data.tokens import listed_tokenizer as listed_tokenizer
from trustml.data.tokens import read_word_vectors as read_word_vectors
