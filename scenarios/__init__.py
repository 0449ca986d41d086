"""One situation a file, run against every service: ``pytest --pyargs session_fix.scenarios``."""
