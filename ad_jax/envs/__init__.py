"""Gymnax environments, and the distributions of tasks over them."""
