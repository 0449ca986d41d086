"""The options of our own runs; the fixtures come from the installed plugin."""

OF_THE_SERVER = {"database", "session_fix_stack", "session_fix_settings"}


def pytest_addoption(parser):
    """Add the options that choose tests."""
    parser.addoption("--nightly", action="store_true", help="run the long sweeps too")
    parser.addoption(
        "--needs-server",
        action="store_true",
        help="run only what takes the server that --session-fix-postgres chooses, or a container of its own",
    )


def pytest_configure(config):
    """Register the marker of tests that start containers by themselves."""
    config.addinivalue_line("markers", "container: starts containers, whichever server was chosen")


def pytest_collection_modifyitems(config, items):
    """Leave out the long sweeps unless they are asked for, and what no other server can change where only that is."""
    wanted = {item: _is_wanted(config, item) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if not wanted[item]])
    items[:] = [item for item in items if wanted[item]]


def _is_wanted(config, item):
    if "nightly" in item.keywords and not config.getoption("nightly"):
        return False
    needs_server = "container" in item.keywords or OF_THE_SERVER & set(item.fixturenames)
    return bool(needs_server) or not config.getoption("needs_server")
