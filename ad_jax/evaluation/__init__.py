"""In-context evaluation: agents, rollouts and statistics."""
