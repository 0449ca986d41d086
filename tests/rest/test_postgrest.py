"""PostgREST beside a container of PostgreSQL: its keys are tokens that it accepts, and a missing image is named."""

import base64
import hashlib
import hmac
import json
import os
import time

import pytest

from session_fix import stack
from session_fix.errors import NoRestError
from session_fix.progress import SILENT
from session_fix.rest import postgrest
from session_fix.servers import docker
from session_fix.settings import Settings

pytestmark = pytest.mark.container
IMAGE = os.environ.get("SESSION_FIX_POSTGREST_IMAGE", postgrest.DEFAULT_IMAGE)
POSTGRES_IMAGE = os.environ.get("SESSION_FIX_POSTGRES_IMAGE", docker.DEFAULT_IMAGE)
NOWHERE = "127.0.0.1:9/no-such-image:1"  # a registry that refuses at once


def decoded(part):
    """Return a part of a token as bytes."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture(scope="module")
def running():
    """Start PostgREST and the server behind it; skip where an image cannot be had."""
    if why := docker.missing() or postgrest.missing(IMAGE):
        pytest.skip(why)
    settings = Settings(postgres="docker", postgres_image=POSTGRES_IMAGE, rest="postgrest", postgrest_image=IMAGE)
    with stack.start(settings, stack.new_keys(settings), progress=SILENT) as started:
        yield started


@pytest.mark.parametrize(("field", "role"), [("anon", "anon"), ("service_role", "service_role")])
def test_a_key_is_a_signed_token_of_its_role(field, role):
    """PostgREST takes the role from the token, once the signature is right."""
    keys = postgrest.new_keys()
    header, claims, signature = getattr(keys, field).split(".")
    expected = hmac.new(keys.jwt_secret.encode(), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    assert hmac.compare_digest(decoded(signature), expected)
    assert json.loads(decoded(header)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decoded(claims))["role"] == role
    assert json.loads(decoded(claims))["exp"] > time.time() + 3600
    assert "=" not in getattr(keys, field)


def test_keys_are_new_for_each_run():
    """A token in a report that somebody publishes opens nothing; RFC 7518 asks for 256 bits of secret."""
    one, other = postgrest.new_keys(), postgrest.new_keys()
    assert one.jwt_secret != other.jwt_secret
    assert len(one.jwt_secret) >= 32
    assert one.jwt_secret not in repr(one)


def test_an_image_that_cannot_be_had_is_named():
    """Without an engine the reason is another one, and the error the same."""
    with pytest.raises(NoRestError, match="No PostgREST container: ") as refused:
        postgrest.start({}, postgrest.new_keys(), image=NOWHERE).__enter__()
    assert NOWHERE in str(refused.value) or "Docker" in str(refused.value) or "docker" in str(refused.value)


def test_the_service_key_reads_and_anon_is_refused(running, ask):
    """The same grants decide here as in front of the embedded server."""
    with running.database() as database:
        endpoint = running.endpoint(database)
        for table in ("ai_sessions", "ai_interactions"):
            url = f"{endpoint.url}{endpoint.rest_path}/{table}"
            answer = ask(url, key=running.keys.service_role)
            assert (answer.status, answer.body) == (200, [])
            assert ask(url, key=running.keys.anon).status in {401, 403}


def test_it_says_what_runs(running):
    """Every report names the stack and its versions."""
    assert IMAGE in running.describe()["rest"]
