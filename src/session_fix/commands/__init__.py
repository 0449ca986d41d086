"""The commands of ``session-fix migrate``, one a module."""
