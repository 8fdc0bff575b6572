"""Networks and how well they do; nothing here knows of privacy."""
