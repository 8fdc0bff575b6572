"""What the sentences of the synthetic grammar are made of; `grammar` explains the notation."""

RULES_TEXT = """
playable: {artist} | {track} by {artist} | (the |){track} | (the |an |){album} (by {artist}|) |
  {artist} {music_item} | (a |the |any |some |){music_item} by {artist} | (the |){music_item}
  {track}( by {artist}|) | (the |){music_item} {album}( by {artist}|) | (the |some |){sort}
  {artist} (songs|{music_item}|) | (the |my |){playlist} playlist
by: {music_item} (by|from|of) {artist} | {artist} | {genre}
title-slot: {track} | {album} | {artist} | {playlist}
addable: {entity_name} | {artist} | (the |this |a |another |){music_item} | {entity_name}
  (by|from) {artist} | (the |a |this ){music_item} (by|from|of) {artist} | (the |){music_item}
  {entity_name}
list: {playlist_owner} {playlist} | {playlist_owner} {playlist} playlist | (the |){playlist}
  playlist | (the |a |)playlist (called |named |){playlist} | {playlist_owner} playlist (called
  |named |titled |){playlist} | {playlist} | {playlist_owner} {playlist} list
eatery: (a |an |the |){restaurant_type} | (a |an |the |){sort} {restaurant_type} | (a |an
  |){cuisine} {restaurant_type} | {restaurant_name} | (the |){restaurant_type} {restaurant_name}
  | (a |){sort} {cuisine} {restaurant_type} | (a |the |){restaurant_type} with {facility}
party: for {party_size_number} | for {party_size_number} people | for (a party of |a group of
  |us ){party_size_number} | for {party_size_description} | for my party of {party_size_number}
place: in {city} | in {state} | in {country} | in {city} {state} | in {city} , {state} |
  {spatial_relation} {poi} | in {city} {country} | {spatial_relation} (the |my |){poi}
when: {timeRange} | (on|for|in|at|by) {timeRange} | {timeRange}
where: in <spot> | for <spot> | at <spot> | here in <spot> | in {current_location} |
  {spatial_relation} <spot>
spot: {city} | {state} | {country} | {city} {state} | {city} , {state} | {city} {country} |
  {geographic_poi} | {city} in {country} | {current_location}
work: {object_name} | (the |){object_type} {object_name} | (the |){object_part_of_series_type}
  {object_name} | {object_name} {object_type}
pointed: {object_select} {object_type} | {object_select} {object_part_of_series_type} |
  {object_select} {object_type}
score: {rating_value} | {rating_value} {rating_unit} | {rating_value} out of {best_rating} |
  {rating_value} out of {best_rating} {rating_unit} | {rating_value} of {best_rating} | rating
  of {rating_value}(| out of {best_rating})
screen: {movie_name} | {location_name} | (the |){movie_type} | <cinema> | {movie_name} at
  (<cinema>|{location_name}) | {movie_type} {spatial_relation} | <cinema> {spatial_relation} |
  {spatial_relation} <cinema>
cinema: (the |a |){object_location_type} | (the |){spatial_relation} {object_location_type}
title: <noun> | the <noun> | <adjective> <noun> | the <adjective> <noun> | <noun> of <noun> |
  the <noun> of the <noun> | <noun> and <noun> | <verb> me <adverb> | <verb> the <noun> |
  <first> | <first> and the <noun> | <made> <noun> | <made> | the <noun> <number> | i <verb> you
  <adverb> | in the <noun> | <noun> in <made> | (my|your|our|no|all) <noun> | <verb>
  (it|you|him|her) <adverb> | the <noun> (that|who) <verb> | a <noun> for <first> | <noun> : the
  <adjective> <noun> | what <noun> <verb>
person: <first> <last> | <first> <last> | <first> <made> | <made> <last> | <first> | <made>
  <made> | <first> <first>
number: one | two | three | four | five | six | seven | eight | nine | ten | 2 | 3 | 4 | 5 | 6 |
  7 | 8 | 9 | 10 | 12
month: january | february | march | april | may | june | july | august | september | october |
  november | december | jan. | feb. | aug. | sep. | oct. | nov. | dec.
day: monday | tuesday | wednesday | thursday | friday | saturday | sunday
ordinal: 1st | 2nd | 3rd | 4th | 5th | 9th | 12th | the fifteenth | the first | 20th | 21st |
  30th | second
clock: <number> (am|pm|o'clock|a.m.|p.m.) | (1|2|3|4|5|6|7|8|9|10|11|12):(00|05|15|20|30|45)(|
  am| pm| a.m.| p.m.) | noon | midnight | half past <number>
adjective: blue | golden | silent | broken | last | secret | wild | lonely | burning | midnight
  | electric | black | white | lost | little | great | sweet | dark | crazy | hidden | red |
  dead | good | beautiful | bad | old | new | young | happy | american | long | first | final |
  perfect | deep
noun: river | heart | night | summer | mirror | garden | train | mountain | stranger | dream |
  fire | ocean | winter | letter | machine | shadow | dancer | city | king | sky | moon | storm
  | road | star | bird | house | world | man | woman | girl | boy | love | life | death | time |
  song | children | war | earth | days | blood | light | game | story | ghost | angel | music |
  dance | party | soul | gold | sun | rain | eyes | home | school | dog | secrets | kings | hell
  | heaven | brothers | sisters | legend
verb: follow | forget | carry | find | break | hold | chase | leave | wake | paint | love | kill
  | call | take | believe | remember | save | want | let | watch
adverb: again | tonight | slowly | home | forever | away | alone | now | down | tomorrow
woman: maria | anna | sarah | laura | fatima | emma | julia | helen | nadia | grace | mei | rosa
  | alice | kate | lisa | michelle | nina | diana
man: john | david | omar | peter | paul | james | carlos | ivan | ken | samuel | tom | leo |
  mike | chris | robert | george | eric | jason | billy
first: <woman> | <man> | <made>
last: smith | garcia | johnson | <made>son | <made> | lee | martin | o'<made> | mc<made> |
  <made>man | <made>ez | williams | jones | brown | taylor | king | white
kin: mother | grandma | daughter | son | friends | cousin | colleagues | mom | boyfriend |
  girlfriend | wife | kids | aunt | uncle | parents | sister | brother | niece
genre-word: jazz | rock | metal | country | techno | folk | soul | pop | blues | reggae | punk |
  classical | indie | hip hop | house | r&b | rap | latin | dance | electronic | gospel | disco
  | k-pop | acoustic | ambient
"""

VALUES_TEXT = """
artist: <person> | <person> | the <noun>s | the <adjective> <noun>s | <made> | <first> and the
  <noun>s | dj <made> | <made> <noun>
track: <title>
album: <title>
entity_name: <title> | <title> | <person>
playlist: <adjective> <noun> | <genre-word> <noun>s | (workout|road
  trip|party|study|dinner|sleep|morning|gym|chill|running|focus|coffee)
  (mix|hits|songs|music|vibes|time|) | <first> 's <noun> | <title> | top <number> <genre-word> |
  <genre-word> (hits|essentials|classics|favorites|party|nation) | this is <person> |
  (best|hot|fresh|new) <genre-word> | <noun> (radio|hits|mix) | (songs|music|tunes) (to|for)
  (sing|sleep|dance|work|the car|the shower|a rainy day) | 90s <genre-word> | <made>
  <genre-word>
playlist_owner: my | my | my | <first> 's | our | her | his | my sister 's
music_item: song | album | track | tune | artist | record | songs | tunes | single | soundtrack
  | music | tracks | albums | band | ep | symphony | concerto | sound track
service: spotify | youtube | pandora | deezer | itunes | tidal | soundcloud | google music |
  napster | groove shark | last fm | apple music | amazon music | vimeo | slacker | zvooq |
  iheart | netflix
genre: <genre-word> | <genre-word> | <genre-word> <genre-word> | <made> <genre-word>
year: (1950|1962|1975|1981|1987|1990|1993|1998|2001|2004|2009|2011|2014|2016|2020) |
  (twenties|thirties|forties|fifties|sixties|seventies|eighties|nineties) |
  (50s|60s|70s|80s|90s) | (19|20)(0|1|5|6|7|8|9)(0|1|2|3|4|5|6|7|8|9)
sort: best | top | newest | latest | popular | most popular | highly rated | top-rated | good |
  greatest | last | top <number> | best-rated | new | famous | highest rated | cheapest | top
  five
restaurant_type: restaurant | bar | cafe | pub | bistro | diner | brasserie | tavern | food
  truck | steakhouse | pizzeria | place to eat | deli | joint | osteria | taverna | cafeteria |
  coffeehouse | gastropub | tea house | bakery | fast food | creperie | churrascaria | ice cream
  parlour
restaurant_name: the <adjective> <noun> | <first> 's | <made> 's
  (kitchen|grill|table|place|bistro) | (cafe|chez|casa|bistro) <made> | <made>
  (diner|tavern|inn|house|grill|cafe) | the <noun> and <noun> | <first> <last> 's | <made>
  <noun> | the <made>
cuisine: italian | thai | mexican | indian | french | korean | greek | ethiopian | japanese |
  turkish | vegan | chinese | spanish | vietnamese | seafood | mediterranean | lebanese |
  american | russian | southern | brazilian | moroccan | pakistani | european | german
served_dish: noodles | tacos | grilled fish | dumplings | lentil soup | burgers | <made> stew |
  lamb curry | pizza | sushi | wings | chicken | salad | ribs | pasta | steak | sandwiches | ice
  cream | pancakes | fish and chips | <made> | waffles | falafel | cheesecake | bread | <made>
  soup
party_size_number: <number> | <number> | (two|2|3|4|5|6|8|9|10|one|seven) | a couple | me and
  <number>
party_size_description: my (sister|brother|boss|family|mom|dad|wife|husband|friend) and (me|i) |
  me and (my|<first>) <kin> | <first> and <first> | <first> , <first> and me | my <kin> and me |
  me , <first> and <first> | my whole family | <first> <last> and i
facility: parking | wifi | a patio | outdoor seating | a terrace | a pool | smoking room |
  indoor | outdoor | valet | spa | internet | a view | baby chairs | wheelchair access | live
  music
poi: (the |)<made> (station|museum|bridge|square|street|avenue|park|theater) | my
  (house|office|hotel|work|place|job|apartment|school|mother 's home) | <first> 's
  (place|house|work|apartment) | <made> | <made> (line|hall|center|plaza) | downtown | the
  (airport|mall|beach|train station|library|stadium)
city: <made> | <made>ville | <made>ton | <made>burg | <made> city |
  (north|south|west|east|new|fort|port|lake|mount|san|saint|el) <made> | <made>
  (springs|falls|heights|park|valley|beach|grove|creek) | <made>field | <made>wood | <made>land
  | london | paris | new york | chicago | boston | berlin | tokyo | los angeles | dallas | miami
  | rome | seattle | denver
state: california | texas | ohio | nevada | georgia | oregon | alabama | florida | new york |
  iowa | nj | tx | ca | fl | ny | nc | wa | mt | ak | pa | il | ma | co | ga | mn | tn | ok | sd
  | nd | vt | nh | me | ri | ct | de | md | va | wv | sc | ms | la | ar | mo | ks | ne | wy | id
  | ut | az | nm | hi | mi | wi | in | ky | arizona | utah | maine | vermont | kansas | montana
  | wisconsin | michigan | north carolina | south dakota | new mexico | west virginia | rhode
  island | washington | virginia | tennessee | louisiana | mississippi | missouri | nebraska |
  illinois | indiana | idaho | alaska | hawaii | colorado | minnesota | kentucky | oklahoma |
  pennsylvania | maryland | delaware | arkansas | wyoming | massachusetts | connecticut | new
  hampshire | new jersey | south carolina | north dakota
country: france | kenya | japan | brazil | norway | peru | vietnam | canada | egypt | <made>ia |
  the <made> islands | india | china | mexico | spain | italy | greece | turkey | iran | iraq |
  israel | nepal | chad | mali | togo | gabon | ghana | cuba | haiti | jamaica | honduras |
  panama | chile | bolivia | ecuador | colombia | argentina | uruguay | portugal | ireland |
  iceland | finland | sweden | denmark | poland | ukraine | russia | georgia | austria | belgium
  | south korea | north korea | new zealand | australia | philippines | thailand | laos |
  malaysia | south africa | saudi arabia | united states | united kingdom | uk | us | puerto
  rico | costa rica | sri lanka | el salvador | saint lucia | burkina faso | equatorial guinea |
  united arab emirates
geographic_poi: <made> (national park|state park|forest|lake|valley|canyon|island|nature
  reserve|wildlife refuge|national forest|state forest|state recreation area|natural
  area|wilderness|monument|preserve|historical park|river) | mount <made> | lake <made> | the
  <adjective> (valley|desert|forest) | <made> <made> (national park|state park|reserve)
current_location: here | my current location | my location | this area | where i am | my current
  place | my current spot | current location | my current position | current place
spatial_relation: near | close to | close by | not far from | around | next to | within walking
  distance of | nearby | closest | nearest | in the area | in the neighborhood | around here |
  neighboring | far from | distant from | faraway from | within the same area as | local | in
  the neighbourhood | five miles from
condition_temperature: cold | hot | warm | freezing | chilly | mild | colder | warmer | hotter |
  humid | cool | chillier | temperate | freezing cold
condition_description: rain | snow | sunny | windy | foggy | cloudy | a storm | hail |
  thunderstorm | snowing | stormy | raining | blizzard | overcast | rainy | fog | humid | wind |
  sleet | drizzle | storms | tornado | hurricane | clouds | cloudless | clear | snowfall |
  snowstorm | depression | humidity
timeRange: (today|tonight|tomorrow|now|right now|this morning|this evening|later today|this
  afternoon|later) | (next|this|on|this coming|) <day> | (this|next)
  (week|month|weekend|year|winter|summer|fall|spring) | (in|at|in the next|) <number>
  (minutes|hours|days|weeks|months|years|seconds) | <month> <ordinal> | <month> <ordinal> ,
  (2018|2021|2025|2033|2037) | the <ordinal> of <month> | <clock> | <clock> |
  (tomorrow|tonight|<day>) at <clock> | <day> (morning|evening|night|afternoon) |
  (breakfast|lunch|dinner|brunch|lunchtime|supper|dinnertime) | (one|two|three|nine|ten|a)
  (minute|hour|week|month|year|second|minutes|hours|weeks|years)(| from now) |
  (christmas|easter|halloween|thanksgiving|labor day|new year 's|valentine 's day|<made>
  day|memorial day) | (in|) (the |)(morning|evening|afternoon|night|future) | <month> of
  (2019|2025|2031) | (sunrise|sunset|dawn) |
  (1|2|3|4|5|6|7|8|9|10|11|12)/(1|5|9|12|15|23|28)/(2018|2024|2031) | <clock>
  (tomorrow|tonight|<day>|on <day>) | (a |)<number> (weeks|days|months|years|hours) from
  (now|today|tomorrow) | same time <day>
object_name: <title> | <title> | <title> | <title> <title> | <person> : <title>
object_type: book | novel | series | game | painting | movie | poem | essay | textbook | album |
  song | tv show | picture | television show | saga | video game | show | photograph |
  soundtrack | trailer | chronicle | program | tv series | creative work | play | movie schedule
  | movie schedules | movie times | films | schedule
object_select: this | current | this current | the current | that | previous | the last | next |
  last | the next | following | the previous
object_part_of_series_type: series | saga | chronicle | album | part | volume | season
rating_value: <number> | (0|1|2|3|4|5|6) | (0|1|2|3|4|5|6) | (zero|one|two|three|four|five|six)
  | a (high|low) mark
rating_unit: points | stars | point | star
best_rating: 5 | 10 | ten | six | 6 | five | 6
movie_name: <title> | <title> | <title> | <person>
movie_type: films | movies | film | movie | animated movies | animated movie | documentaries |
  comedies | horror movies | thrillers
location_name: <made> (cinema|theatres|theaters|cinemas|corporation|entertainment) |
  (regal|odeon|palace|rex|imax) <made> | <made> picture house | <made> <made>
  (theatres|cinemas|entertainment) | <made> bros. theatres | amc theaters | <adjective> <noun>
  (theatres|cinemas) | <made> theatre (company|group|corporation)
object_location_type: cinema | theatre | movie theater | movie house | theater | cinemas |
  theatres | movie theatre | drive-in | movie theatres | movie houses | theaters
contact: <woman> | <man> | my <kin> | <first> <last> | <woman> <last> | <man> from work | doctor
  <last> | mister <last> | mrs <last>
message: i am (late|on my way|at work|home) | the (meeting|game|dinner) is at <clock> | (happy
  birthday|good luck|thank you|see you) (|<adverb>) | we need (milk|bread|<number> tickets|a
  <noun>) | (can|could) pick (me|us) up at <clock> | (is|are) coming to the (party|game|house)
label: medicine | laundry | pasta | school run | gym | eggs | bus | meeting with <first> |
  <made> bread | cake | nap
duration: <number> (minutes|hours|seconds) | half an hour | an hour and a half |
  (1|2|3|10|15|25|40|90) (minutes|seconds) | a quarter of an hour
device: lights | lamp | heater | television | fan | speaker | oven | front door | coffee machine
  | mobile | washing machine | radio
room: kitchen | bedroom | living room | garage | hallway | bathroom | <first> 's room | office |
  attic
amount: <number> percent | (18|19|20|21|22|25) degrees | half | full | the lowest level
place: home | work | the office | <made> hospital | school | the hotel
"""
