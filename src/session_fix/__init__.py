"""Reproduce, prove and roll out the idempotent ``create_session()`` fix of a FastAPI + Supabase backend."""

from pathlib import Path

__version__ = "0.1.0"

# migrations/, scenarios/, service/ and fixtures/ stand at the top of a checkout and inside this package in a wheel.
# Adding the checkout to the package's path gives them one name, ``session_fix.fixtures`` and so on, in both.
_checkout = Path(__file__).resolve().parents[2]
if (_checkout / "migrations" / "env.py").is_file() and (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
