"""Run a service directory in an interpreter of its own and call its layers."""

from session_fix.host.service import Call, Outcome, Service, start

__all__ = ["Call", "Outcome", "Service", "start"]
