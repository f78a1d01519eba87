from datetime import timedelta

import httpx
import orjson
import pytest
from sqlalchemy import select

from ares import tasks
from ares.database import Reading, Summary, now, transaction
from ares.settings import Settings
from ares.worker import app, create_worker


def keep(rover: str, age_in_days: int = 0) -> None:
    with transaction() as session:
        taken_at = now() - timedelta(days=age_in_days)
        session.add(Reading(rover=rover, sensor="wind", value=1.5, taken_at=taken_at))


def test_summarise_all_asks_for_each_rover() -> None:
    for rover in ("spirit", "spirit", "opportunity"):
        keep(rover)
    assert tasks.summarise_all.delay().get() == 2
    with transaction() as session:
        counts = {s.rover: s.count for s in session.scalars(select(Summary))}
    assert counts == {"spirit": 2, "opportunity": 1}


def test_prune_keeps_young_readings() -> None:
    keep("spirit", age_in_days=40)
    keep("spirit", age_in_days=1)
    assert tasks.prune_readings.delay(days=30).get() == 1
    with transaction() as session:
        assert len(session.scalars(select(Reading)).all()) == 1


def test_every_scheduled_task_exists() -> None:
    worker = create_worker(Settings(keep_days=7))
    schedule = worker.conf.beat_schedule
    assert {entry["task"] for entry in schedule.values()} <= set(app.tasks)
    assert schedule["prune-readings"]["kwargs"] == {"days": 7}


def test_notify_without_a_webhook_does_nothing() -> None:
    assert tasks.notify.delay("dust storm").get() is False


def test_post_sends_json_and_fails_on_an_error() -> None:
    seen: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(orjson.loads(request.content))
        return httpx.Response(204 if request.url.path == "/ok" else 500)

    def client() -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer))

    assert tasks.post(client(), "http://hook/ok", "dust storm")
    assert seen == [{"service": "ares", "message": "dust storm"}]
    with pytest.raises(httpx.HTTPStatusError):
        tasks.post(client(), "http://hook/broken", "dust storm")
