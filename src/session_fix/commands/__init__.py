"""Commands of the rollout, one a module."""
