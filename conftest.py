"""The options of our own runs; the fixtures come from the installed plugin."""


def pytest_addoption(parser):
    """Add the option that runs the long sweeps."""
    parser.addoption("--nightly", action="store_true", help="run the long sweeps too")


def pytest_collection_modifyitems(config, items):
    """Leave the long sweeps out unless they are asked for."""
    if not config.getoption("nightly"):
        kept = [item for item in items if "nightly" not in item.keywords]
        config.hook.pytest_deselected(items=[item for item in items if "nightly" in item.keywords])
        items[:] = kept
