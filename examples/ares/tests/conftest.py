"""Each test has a database in memory, and tasks run where they are called."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from ares import database, settings
from ares.worker import app as celery


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ARES_DATABASE_URL", "sqlite://")
    settings.load_settings.cache_clear()
    database.load_engine.cache_clear()
    celery.conf.update(
        task_always_eager=True, result_backend="cache+memory://", broker_url="memory://"
    )
    yield
    database.load_engine().dispose()


@pytest.fixture
def client() -> Iterator[TestClient]:
    from ares.api import create_app

    with TestClient(create_app()) as client:
        yield client
