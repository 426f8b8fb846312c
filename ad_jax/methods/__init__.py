"""Training of the distilled model."""
