"""The Supabase client, made from the environment."""

import os

from supabase import Client, ClientOptions, create_client


def supabase_client(options: ClientOptions | None = None) -> Client:
    """Return a client for ``SUPABASE_URL`` with the backend's key. Raises ``KeyError`` for a missing variable."""
    return create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_SERVICE_ROLE_KEY"], options)
