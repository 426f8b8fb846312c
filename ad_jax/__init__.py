"""Algorithm Distillation in JAX: environments, source learners, model, training and evaluation."""

__version__ = "0.1.0"
