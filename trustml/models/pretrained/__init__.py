"""Pretrained weights in the files of Hugging Face: search, download, reading and writing."""
