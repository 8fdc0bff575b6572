"""Pretrained architectures: BERT, DistilBERT, RoBERTa, GPT-2 and BART, with heads for each task."""
