"""Pretrained weights: found, read, checked and written in the files of Hugging Face."""
