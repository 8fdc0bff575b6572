"""Sub-word tokenizers of pretrained models, read from their files."""
