"""The grammar behind the synthetic corpus: how people ask an assistant for things.

It was written by hand and holds no row of any data set. Where a slot means what a slot of the SNIPS
schema means it has the same name, so that a network may be pretrained on it for SNIPS. Its authors
know the SNIPS corpus, which is published: they wrote from its schema, its counts of slots per
intent, and after seeing five of its training rows. For private data of your own, a grammar must be
written without looking at the rows, or what it was modelled on is not covered by any guarantee.

A rule is text in which `(a|b|)` is a choice (it may be empty, and nests), `{slot}` is the value of
a slot and `<rule>` another rule. `<made>` is a made-up word, so that names never run out. Of a
name's alternatives, between ` | `, each is as likely as the next.
"""

import re

from trustml.data.values import RULES_TEXT, VALUES_TEXT

_INTENTS_TEXT = """
play_music:
    (|please |can you |i want to |i'd like to )(play|hear|listen to|put on) <playable>(|
      on {service}| using {service}| from {service})
  | (play|put on) (some|me some|a little|) {genre} (music|songs|tunes|)(| on {service}|
      from the {year})
  | (play|start|open|use) {service} (and play|to play) (|some |the ){sort} <by>
  | (play|find|hear) (the |a |){sort} {music_item} (by|from|of) {artist}(| on {service})
  | (|i want to |let me |let's )(hear|listen to|play) (some |any |){music_item} (from|of)
      (the |){year}(| by {artist}| on {service})
  | play {year} (music|{music_item}|) (by|from) {artist}
  | (turn on|play) {artist}( on {service}|'s {sort} {music_item}|)
  | (play|start) (my |the |a |){playlist} (playlist|)( on {service}|)
  | i (need|want) to hear <playable>
  | (|can you |please )play <title-slot>
add_to_playlist:
    (|please |can you |could you |i want to |i'd like to |i need to )(add|put|include)
      <addable> (to|in|into|onto) <list>
  | (|please )(add|put) <addable> (to|on|in) {playlist_owner} (playlist |list |)(called
      |named |titled |){playlist}(| playlist)
  | (add|put|save|include|place) (this|the|a|another|the current|current) {music_item}
      (to|in|into|onto) <list>
  | add (this |that |the |a |){music_item} (by|from) {artist} (to|in|into) <list>
  | (add|put|have) {artist} (added |)(to|in|on) <list>
  | (|the ){music_item} (should|must|needs to) (be added to|go into|go on) <list>
  | (expand|grow|extend) <list> with <addable>
  | <list> needs <addable>
book_restaurant:
    (|please |can you |could you |i want to |i'd like to |i need to |we want to
      )(book|reserve|make a reservation at|get a table at|find a table at) <eatery>(|
      <party>)(| <place>)(| <when>)
  | (|please |can you |i need to |i want to )(book|reserve|get|find) (a |me a
      |)(table|spot|seat|reservation|seats|place) <party> (at|in) <eatery>(| <place>)(|
      <when>)
  | (make|book|get) (me |us |)(a |)(reservation|reservations|booking|table) <place>
      <party>(| <when>)
  | (make|book) (me |us |a |)(reservation|table|booking|reservations) (for|<when> for)
      {party_size_number} (people |)(at|in) <eatery>(| <place>)
  | (|i want to )(eat|have|get|dine on) {served_dish} (at|in) <eatery>(| <place>)(
      <party>|)(| <when>)
  | (book|find|reserve) (a |the |)<eatery> (that serves|which serves|serving|with|known
      for) ({served_dish}|{cuisine} (food|cuisine|)|{facility})(| <party>)(| <place>)(|
      <when>)
  | {party_size_description} (want|would like|are looking|need) to (eat|book|dine|have
      dinner) (at|in) <eatery>(| <place>)(| <when>)
  | (book|reserve) (a |)(table |spot |)(in|at) {poi} (at|in) <eatery> <party>
  | i'd like to (eat|book|dine) (somewhere|at a place|a place|a {restaurant_type})
      {spatial_relation} {poi}(| <when>)(| <party>)
get_weather:
    (what's|what is|tell me|give me|show me|check|what will be|how is|how's) (the
      |)(weather|forecast|weather forecast) (|like |going to be )<where>(| <when>)
  | (what's|what is|tell me) the (weather|forecast) (|going to be ){timeRange} <where>
  | (will|is|does|could|is it) (it|there|) (be|going to be|get|turn|be any|going to)
      ({condition_temperature}|{condition_description}) (|<when> )<where>(| <when>)
  | (will|is) (it|there be) ({condition_description}|{condition_temperature}) (|<when>
      )<where>
  | (how|when will it be) {condition_temperature} (is it|will it be|) (|<when> )<where>
  | (weather|forecast) (for|in|at) <spot>(| <when>)
  | (is|are) (there|we getting) (a |any |){condition_description} (coming |expected
      |)(<when> |)<where>
  | (what|how much|how many) (are the chances of|is the chance of) {condition_description}
      <where>(| <when>)
  | (what's|tell me) the weather (forecast |)(for|in) {current_location}(| <when>)
  | (do|should) i (need|take|bring) (an umbrella|a coat) <when> <where>
rate_item:
    (|please |i want to |i'd like to |i would |can you )(rate|give|mark|score) <work> (a
      |with |at |)<score>
  | (rate|mark|score) <pointed> (a |with |at |){rating_value} (|{rating_unit} )(out of|of)
      {best_rating}(| {rating_unit})
  | (give|i give|i'd give|i would give) <pointed> (a |a rating of |a score of
      |){rating_value}(| {rating_unit})
  | (add|give|assign) (a |a rating of |){rating_value} (|{rating_unit} |out of
      {best_rating} )(to|for) (<work>|<pointed>)
  | {rating_value} (out of|of) {best_rating} (|{rating_unit} )for (<work>|<pointed>)
  | i (think|feel|say|believe) (<work>|<pointed>) (should be|is|deserves|should get|gets)
      (a |a rating of |worth |){rating_value}(| {rating_unit})
  | (<work>|<pointed>) (gets|deserves|should get|was|is|rates) (a |only |){rating_value}
      (|{rating_unit} )(out of {best_rating}|from me|)
find_screening:
    (|please |can you |could you |i want to )(find|show|give|get|check|look up|see) (me
      |)(the |a list of |)(movie schedule|{object_type}|movie times|{object_type})
      (for|of|at|in) <screen>
  | (what|which) {movie_type} (are|is) (playing|showing|on|screening) (at|in|)
      (<screen>|{spatial_relation})
  | (when|what time|where|at what time) (is|will|can i see|does) {movie_name}
      (playing|showing|start|being shown|play|)(| at {location_name}| at <cinema>)(|
      <when>)
  | (is|will) {movie_name} (playing|showing|be shown|be on|on) (at {location_name}|at
      <cinema>|<when>|{spatial_relation}|)
  | (show|find|get|tell) me (the |)(movies|{movie_type}|{object_type}) (playing |showing
      |)(at|in|around) (<screen>|<cinema> {spatial_relation})(| <when>)
  | (find|show me|what are) (the |){movie_type} (times |schedule |)(at|in|for|)
      (<cinema>|{location_name}|{spatial_relation})(| <when>)
  | (i want|i'd like|want|need) to (see|watch) {movie_name} (at|in|{spatial_relation})
      (<cinema>|{location_name})(| <when>)
  | (i need|get me|give me|look for) {object_type} (for|of) (|the ){movie_type}
      {spatial_relation}
  | (find|show|see) {movie_name}
search_work:
    (|please |can you |could you |i want to |i'd like to |i need to |will you
      )(find|show|get|look for|search for|look up|see|locate|play|watch|read|pull up) (me
      |)(the |a |an |){object_type} (|called |named |titled |of |by the name of
      ){object_name}
  | (find|show me|get me|look up|search for|i am looking for|i'm looking for|where can i
      find|i want) {object_name}(| {object_type})
  | (where|how) can i (find|get|buy|see|watch|read|purchase) (the |a |){object_type}
      {object_name}
  | (find|show|get) (me |)(the |)(trailer|soundtrack|picture|photograph|{object_type})
      (for|of|to) {object_name}
  | (do you|can you) (know|have|find|get) (the |){object_name} {object_type}
  | what is (the |){object_type} {object_name}( about|)
set_alarm:
    (|please )(set|make|create) (an |a |my |)alarm (for|at) {timeRange}(| called {label})
  | (wake me up|get me up|wake me) (at|by) {timeRange}
  | i (need|want|have) to (be up|get up|wake up) (by|at|before) {timeRange}
  | (cancel|delete|turn off|switch off|remove) (my |the |){timeRange} alarm
  | (cancel|delete|stop) (my |the ){label} alarm
set_timer:
    (|please )(set|start|give me) (a |another |)timer (for|of) {duration}(| for (the
      |){label})
  | (count down|countdown|remind me in) {duration}(| for the {label})
  | (time|start timing) (the |my |){label} for {duration}
  | how (long|much time) is left on (the |my ){label} timer
send_message:
    (|please )(text|message|write to|tell) {contact} (that |saying |){message}
  | (send|write) (a |)(text|message|note) to {contact} (saying |that says |and say
      |){message}
  | let {contact} know (that |){message}
  | (ask|tell) {contact} (if|whether) (she|he|they) {message}
call_contact:
    (|please |can you |i need to )(call|ring|phone|dial) {contact}(| on {device}| at
      {place})
  | (get|put) {contact} on the (phone|line|{device})
  | (make|place) a call to {contact}(| at {place})
  | i (want|need) to (talk|speak) to {contact}
control_home:
    (|please )(turn|switch) (on|off) (the |my |)({device}|{room} {device})(| in the
      {room})(| {timeRange})
  | (dim|brighten|set) (the |){device} (in the {room} |)to {amount}
  | (make|set) the {room} (warmer|colder|brighter|to {amount})
  | is the {device} (in the {room} |)(on|off|locked)
  | (start|stop|pause) the {device}(| at {timeRange}| in the {room})
"""


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    entries = re.split(r"^(\S+):", text.strip(), flags=re.MULTILINE)[1:]
    pairs = zip(entries[::2], entries[1::2], strict=True)
    return {name: tuple(" ".join(body.split()).split(" | ")) for name, body in pairs}


INTENTS = _parse(_INTENTS_TEXT)
RULES = _parse(RULES_TEXT)
VALUES = _parse(VALUES_TEXT)
