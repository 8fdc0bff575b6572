"""Small networks on words: intent and slots of an utterance, and tags."""
