"""Expert distillation: algorithm distillation on the histories of experts (paper, section 4).

The model sees no learning, only what an expert does, so it imitates and does not improve in
context.
"""

from ad_jax.errors import UserError
from ad_jax.methods import ad


def validate(settings: ad.ADConfig, model, max_steps: int, experts: bool) -> None:
    """Refuses histories of learners; see ``MethodSpec.validate``."""
    del settings, model, max_steps
    if not experts:
        raise UserError(
            "ED learns from experts, but keep_begin=0 keeps the whole history of a learner: give "
            "0.9, for its last tenth, or use a source that is an expert (noise with "
            "epsilon_start=0)"
        )


ED = ad.AD._replace(validate=validate)
