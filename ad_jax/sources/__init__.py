"""Source learners, whose histories are distilled."""
