"""Published schemas with many names, written down so that no label is read off private rows."""

from trustml.data.rows import Schema
from trustml.data.snips import SCHEMA as SNIPS

SNIPS_SLOTS = Schema(SNIPS.slots)
WNUT17 = Schema(("corporation", "creative-work", "group", "location", "person", "product"))

CLINC150 = Schema(
    labels=(
        "accept_reservations", "account_blocked", "alarm", "application_status", "apr",
        "are_you_a_bot", "balance", "bill_balance", "bill_due", "book_flight",
        "book_hotel", "calculator", "calendar", "calendar_update", "calories", "cancel",
        "cancel_reservation", "car_rental", "card_declined", "carry_on",
        "change_accent", "change_ai_name", "change_language", "change_speed",
        "change_user_name", "change_volume", "confirm_reservation", "cook_time",
        "credit_limit", "credit_limit_change", "credit_score", "current_location",
        "damaged_card", "date", "definition", "direct_deposit", "directions",
        "distance", "do_you_have_pets", "exchange_rate", "expiration_date",
        "find_phone", "flight_status", "flip_coin", "food_last", "freeze_account",
        "fun_fact", "gas", "gas_type", "goodbye", "greeting", "how_busy",
        "how_old_are_you", "improve_credit_score", "income", "ingredient_substitution",
        "ingredients_list", "insurance", "insurance_change", "interest_rate",
        "international_fees", "international_visa", "jump_start", "last_maintenance",
        "lost_luggage", "make_call", "maybe", "meal_suggestion", "meaning_of_life",
        "measurement_conversion", "meeting_schedule", "min_payment", "mpg", "new_card",
        "next_holiday", "next_song", "no", "nutrition_info", "oil_change_how",
        "oil_change_when", "order", "order_checks", "order_status", "pay_bill",
        "payday", "pin_change", "play_music", "plug_type", "pto_balance", "pto_request",
        "pto_request_status", "pto_used", "recipe", "redeem_rewards", "reminder",
        "reminder_update", "repeat", "replacement_card_duration", "report_fraud",
        "report_lost_card", "reset_settings", "restaurant_reservation",
        "restaurant_reviews", "restaurant_suggestion", "rewards_balance", "roll_dice",
        "rollover_401k", "routing", "schedule_maintenance", "schedule_meeting",
        "share_location", "shopping_list", "shopping_list_update", "smart_home",
        "spelling", "spending_history", "sync_device", "taxes", "tell_joke", "text",
        "thank_you", "time", "timer", "timezone", "tire_change", "tire_pressure",
        "todo_list", "todo_list_update", "traffic", "transactions", "transfer",
        "translate", "travel_alert", "travel_notification", "travel_suggestion", "uber",
        "update_playlist", "user_name", "vaccines", "w2", "weather",
        "what_are_your_hobbies", "what_can_i_ask_you", "what_is_your_name", "what_song",
        "where_are_you_from", "whisper_mode", "who_do_you_work_for", "who_made_you",
        "yes", "oos",
    ),
)  # fmt: skip

HWU64 = Schema(
    labels=(
        "alarm_query", "alarm_remove", "alarm_set", "audio_volume_down",
        "audio_volume_mute", "audio_volume_up", "calendar_query", "calendar_remove",
        "calendar_set", "cooking_recipe", "datetime_convert", "datetime_query",
        "email_addcontact", "email_query", "email_querycontact", "email_sendemail",
        "general_affirm", "general_commandstop", "general_confirm", "general_dontcare",
        "general_explain", "general_joke", "general_negate", "general_praise",
        "general_quirky", "general_repeat", "iot_cleaning", "iot_coffee",
        "iot_hue_lightchange", "iot_hue_lightdim", "iot_hue_lightoff",
        "iot_hue_lighton", "iot_hue_lightup", "iot_wemo_off", "iot_wemo_on",
        "lists_createoradd", "lists_query", "lists_remove", "music_likeness",
        "music_query", "music_settings", "news_query", "play_audiobook", "play_game",
        "play_music", "play_podcasts", "play_radio", "qa_currency", "qa_definition",
        "qa_factoid", "qa_maths", "qa_stock", "recommendation_events",
        "recommendation_locations", "recommendation_movies", "social_post",
        "social_query", "takeaway_order", "takeaway_query", "transport_query",
        "transport_taxi", "transport_ticket", "transport_traffic", "weather_query",
    ),
    slots=(
        "alarm_type", "app_name", "artist_name", "audiobook_author", "audiobook_name",
        "business_name", "business_type", "change_amount", "coffee_type", "color_type",
        "cooking_type", "currency_name", "date", "definition_word", "device_type",
        "drink_type", "email_address", "email_folder", "event_name", "food_type",
        "game_name", "game_type", "general_frequency", "house_place", "ingredient",
        "joke_type", "list_name", "meal_type", "media_type", "movie_name", "movie_type",
        "music_album", "music_descriptor", "music_genre", "news_topic", "order_type",
        "person", "personal_info", "place_name", "player_setting", "playlist_name",
        "podcast_descriptor", "podcast_name", "radio_name", "relation", "song_name",
        "time", "time_zone", "timeofday", "transport_agency", "transport_descriptor",
        "transport_name", "transport_type", "weather_descriptor",
    ),
)  # fmt: skip
