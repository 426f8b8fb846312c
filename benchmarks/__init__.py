"""Benchmarks of this project and of other libraries ("peers"), measured in the same run."""
