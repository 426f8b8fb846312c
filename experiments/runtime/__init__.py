"""How a run lives on a machine: processes, signals, memory, its folder and its metrics."""
