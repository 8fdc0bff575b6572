"""Rows generated under the labels of SNIPS, to pretrain on before private rows are touched."""

import dataclasses

from trustml.data import synthetic
from trustml.data.examples import Examples
from trustml.data.rows import Schema

# The corpus's published schema: written down here, so that no label is read off private rows.
SCHEMA = Schema(
    labels=(
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


def generated(rows: int, *, seed: int = 0) -> Examples:
    """Synthetic rows under the labels of SNIPS.

    They come from the package's grammar and hold no row of SNIPS, but the grammar's authors know
    that corpus: see `trustml.data.grammar` on what this means for data of your own.

    >>> generated(3).synthetic
    True

    Args:
      rows: Number of rows.
      seed: Which rows.
    """
    own = tuple(_GRAMMAR.values())
    train = synthetic.generate(train=rows, valid=1, test=1, seed=seed, intents=own).train
    names = {grammar: intent for intent, grammar in _GRAMMAR.items()}
    return dataclasses.replace(
        train,
        rows=tuple(row._replace(intent=names[row.intent], group=0) for row in train.rows),
        labels=SCHEMA.labels,
        slots=SCHEMA.slots,
        groups=SCHEMA.groups,
        group_of=None,
        source=f"synthetic, {rows} rows generated under the labels of SNIPS",
    )
