"""Algorithm Distillation in JAX: environments, source learners, model, training and evaluation."""
