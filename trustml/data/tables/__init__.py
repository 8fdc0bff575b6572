"""Tables of numbers and categories: their public schema, their rows, and arrays of both."""

from trustml.data.tables.encoding import encode_table as encode_table
from trustml.data.tables.schema import CategoryColumn as CategoryColumn
from trustml.data.tables.schema import NumberColumn as NumberColumn
from trustml.data.tables.schema import TableSchema as TableSchema
from trustml.data.tables.schema import read_schema as read_schema
from trustml.data.tables.table import Table as Table
