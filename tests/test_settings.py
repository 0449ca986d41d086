"""Which stack is chosen, by whom, and what is said when the choice is wrong."""

import pytest

from session_fix.errors import UsageError
from session_fix.rest import Keys
from session_fix.settings import VARIABLES, Settings, load

CANARY = "canary-that-nobody-may-read"


@pytest.fixture
def settings(tmp_path):
    """Return a function that loads settings from a table, flags and an environment, and from nothing else."""

    def of(table="", *, environ=None, text=None, folder="", **flags):
        text = f"[tool.session-fix]\n{table}" if text is None else text
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        return load(flags, folder=tmp_path / folder, environ=environ or {})

    return of


def test_without_a_choice_nothing_but_pip_is_needed(settings):
    """The default stack runs on a machine that has neither Docker nor a database."""
    assert settings() == Settings()
    assert (settings().postgres, settings().rest) == ("embedded", "lite")


def test_flags_win_over_the_file_and_the_file_over_the_environment(settings):
    """What stands nearest to the command is what its author means now."""
    environ = {"SESSION_FIX_POSTGRES_IMAGE": "of-environment"}
    assert settings().postgres_image == Settings().postgres_image
    assert settings(environ=environ).postgres_image == "of-environment"
    assert settings('postgres-image = "of-file"', environ=environ).postgres_image == "of-file"
    assert settings('postgres-image = "of-file"', environ=environ, postgres_image="of-flag").postgres_image == "of-flag"


@pytest.mark.parametrize("key", VARIABLES)
def test_each_variable_sets_its_key(settings, key):
    """A variable that is documented and not read would be believed to work."""
    assert getattr(settings(environ={VARIABLES[key]: "value"}), key) == "value"


@pytest.mark.parametrize("key", VARIABLES)
def test_an_empty_variable_is_none(settings, key):
    """CI systems set variables of secrets they do not have to nothing."""
    assert settings(environ={VARIABLES[key]: ""}) == Settings()


def test_a_flag_that_was_not_given_changes_nothing(settings):
    """The command line passes every flag, most of them None."""
    assert settings('postgres = "docker"', postgres=None, rest=None).postgres == "docker"


def test_false_is_a_choice(settings):
    """None was not given; False was."""
    assert settings("allow-remote = true").allow_remote is True
    assert settings("allow-remote = true", allow_remote=False).allow_remote is False


def test_keys_come_from_the_environment(settings):
    """They have no flag and no place in a file."""
    found = settings(environ={"SUPABASE_ANON_KEY": "a", "SUPABASE_SERVICE_ROLE_KEY": "s"})
    assert found.supabase_keys == Keys("a", "s")


def test_the_nearest_file_counts_alone(settings, tmp_path):
    """A package inside a repository has settings of its own, or none."""
    for folder in ("with", "without", "with/deep/below"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "with/pyproject.toml").write_text('[tool.session-fix]\nservice = "inner"\n')
    (tmp_path / "without/pyproject.toml").write_text("[project]\n")
    outer = 'service = "outer"'
    found = [settings(outer, folder=folder).service for folder in (".", "with", "with/deep/below", "without")]
    assert found == ["outer", "inner", "inner", ""]


@pytest.mark.parametrize(
    ("key", "name"), [("postgres-version", "postgres_version"), ("postgres_version", "postgres_version")]
)
def test_keys_of_the_file_may_have_hyphens_or_underscores(settings, key, name):
    """Both are common in TOML."""
    assert getattr(settings(f'{key} = "18"'), name) == "18"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('postgress = "docker"', "no key 'postgress'. Did you mean 'postgres'?"),
        ('postgres-vers = "16"', "no key 'postgres-vers'. Did you mean 'postgres-version'?"),
        ('xyzzy = "?"', "no key 'xyzzy'."),
    ],
)
def test_an_unknown_key_is_named_with_its_file_and_a_near_one(settings, tmp_path, table, said):
    """A misspelt key that is ignored runs on another stack than its author believes."""
    with pytest.raises(UsageError) as refused:
        settings(table)
    assert str(refused.value).endswith(said)
    assert str(tmp_path / "pyproject.toml") in str(refused.value)


@pytest.mark.parametrize("table", [f'dsn = "{CANARY}"', f'supabase-keys = "{CANARY}"'])
def test_secrets_are_refused_in_a_file(settings, table):
    """That file is committed."""
    with pytest.raises(UsageError, match="no key") as refused:
        settings(table)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [
        ("postgres", "mysql", "embedded, docker, external"),
        ("rest", "Lite", "lite, postgrest, external"),
        ("postgres_version", "9", "16"),
    ],
)
@pytest.mark.parametrize("place", ["flag", "file"])
def test_a_bad_choice_is_named_with_the_good_ones(settings, key, value, choices, place):
    """The message alone is enough to repair the command."""
    with pytest.raises(UsageError) as refused:
        settings(f'{key} = "{value}"') if place == "file" else settings(**{key: value})
    assert all(word in str(refused.value) for word in (key, repr(value), choices))


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('allow-remote = "false"', "allow"),
        ("service = 3", "service"),
        ("postgres-image = []", "postgres"),
        ("python = true", "python"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(settings, table, key):
    """The text "false" is true to Python: it would let databases be made on another machine."""
    with pytest.raises(UsageError, match=key):
        settings(table)


@pytest.mark.parametrize("text", ["[tool.session-fix", "tool = 3", "[tool]\nsession-fix = 3", "\x00"])
def test_a_file_that_cannot_be_read_is_named(settings, tmp_path, text):
    """A traceback of the TOML parser does not say which file it read."""
    with pytest.raises(UsageError) as refused:
        settings(text=text)
    assert str(tmp_path / "pyproject.toml") in str(refused.value)


def test_a_file_that_is_not_utf_8_is_named(settings, tmp_path):
    """TOML is UTF-8 by definition; what is not, is no TOML."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_bytes(b'[project]\nname = "\xff"\n')
    with pytest.raises(UsageError) as refused:
        settings(folder="inner")
    assert str(inner / "pyproject.toml") in str(refused.value)


EXTERNAL_REST = {"SESSION_FIX_SUPABASE_URL": "http://127.0.0.1:1", "SESSION_FIX_SUPABASE_DATABASE": "d"}


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"postgres": "external"}, {}, "SESSION_FIX_DSN"),
        ({"rest": "external"}, {}, "SESSION_FIX_SUPABASE_URL"),
        ({"rest": "external"}, {"SESSION_FIX_SUPABASE_URL": "http://x"}, "SESSION_FIX_SUPABASE_DATABASE"),
        ({"rest": "external"}, {"SESSION_FIX_SUPABASE_DATABASE": "d"}, "SESSION_FIX_SUPABASE_URL"),
        ({"rest": "postgrest"}, {}, "--postgres docker"),
        ({"rest": "postgrest", "postgres": "external"}, {"SESSION_FIX_DSN": CANARY}, "--postgres docker"),
    ],
)
def test_a_choice_that_lacks_its_other_half_says_which(settings, flags, environ, said):
    """Nothing is started that cannot work."""
    with pytest.raises(UsageError, match=said) as refused:
        settings(environ=environ, **flags)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ({"postgres": "external"}, {"SESSION_FIX_DSN": "postgresql://127.0.0.1"}),
        ({"rest": "external", "postgres": "external"}, EXTERNAL_REST | {"SESSION_FIX_DSN": "postgresql://127.0.0.1"}),
        ({"rest": "postgrest", "postgres": "docker"}, {}),
    ],
)
def test_a_choice_with_its_other_half_is_taken(settings, flags, environ):
    """The refusals above are for what lacks something, not for the choice."""
    found = settings(environ=environ, **flags)
    assert {name: getattr(found, name) for name in flags} == flags


def test_no_secret_is_in_the_repr(settings):
    """Settings are printed by failing tests and by tracebacks."""
    names = ("SESSION_FIX_DSN", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY")
    found = settings(environ=dict.fromkeys(names, CANARY))
    assert found.dsn == found.supabase_keys.anon == found.supabase_keys.service_role == CANARY
    assert CANARY not in f"{found!r} {found} {found.supabase_keys!r} {Keys('', '', CANARY)!r}"


def test_the_environment_is_read_when_asked_and_not_before(tmp_path, monkeypatch):
    """What was read at import could not be changed by a test or a command."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("SESSION_FIX_POSTGRES_IMAGE", "set-just-now")
    monkeypatch.chdir(tmp_path)
    assert load({}).postgres_image == "set-just-now"
