"""Sequence models that are distilled into."""
