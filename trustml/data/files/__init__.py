"""Files of the user's own: one small reader a format, guessed columns, and parts by unit."""

from trustml.data.files.columns import choose_columns as choose_columns
from trustml.data.files.formats import columns_of as columns_of
from trustml.data.files.formats import is_rows as is_rows
from trustml.data.files.formats import read_rows as read_rows
from trustml.data.files.formats import splits_of as splits_of
from trustml.data.files.options import FileOptions as FileOptions
from trustml.data.files.own import OwnData as OwnData
from trustml.data.files.own import load_own as load_own
from trustml.data.files.sources import OWN_ROWS as OWN_ROWS
from trustml.data.files.sources import source_of as source_of
from trustml.data.files.sources import stem_of as stem_of
