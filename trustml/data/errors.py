"""The error of data that cannot be used."""


class DataError(ValueError):
    """Data that cannot be used. The message names file and line, the value and the way out."""
