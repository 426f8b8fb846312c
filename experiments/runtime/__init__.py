"""The runtime of a run: processes, signals, memory, its folder and its metrics."""
