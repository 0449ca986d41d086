"""The proxy between the service and the data API: records every call; later it holds and breaks them too."""

from session_fix.tap.proxy import Tap

__all__ = ["Tap"]
