"""A rollout rehearsed on a throwaway database of its size, while old and new code of the backend go on using it."""
