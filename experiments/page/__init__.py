"""One page of HTML: a learner that is watched live, or the report of a run."""
