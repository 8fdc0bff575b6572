"""Files of the user's own: one small reader a format, guessed columns, and parts by unit."""

from trustml.data.files.formats import columns_of as columns_of
from trustml.data.files.formats import is_rows as is_rows
from trustml.data.files.formats import read_rows as read_rows
from trustml.data.files.formats import splits_of as splits_of
