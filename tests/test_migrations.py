"""What pytest-alembic checks of every chain of migrations; there are no models to compare ours with."""

import pytest

tests = pytest.importorskip("pytest_alembic.tests", reason="pytest-alembic is not installed")

test_single_head_revision = tests.test_single_head_revision
test_upgrade = tests.test_upgrade
test_up_down_consistency = tests.test_up_down_consistency
