"""Reports: each is a function of recorded events and their judgement, and of nothing else."""
