import pytest
from pydantic import ValidationError

from ares.healthcheck import healthy
from ares.settings import Settings


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARES_PORT", "9001")
    assert Settings().port == 9001


def test_a_bad_port_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(port=0)


def test_no_answer_is_not_healthy() -> None:
    assert not healthy("http://127.0.0.1:1/health")
