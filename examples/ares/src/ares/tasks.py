"""What the workers do."""

from datetime import timedelta

import httpx
import orjson
from sqlalchemy import delete, func, select

from ares.database import Reading, Summary, now, transaction
from ares.settings import load_settings
from ares.worker import app


@app.task(name="ares.tasks.summarise")  # type: ignore[untyped-decorator]
def summarise(rover: str) -> int:
    """Count the readings of a rover anew; gives the number of its sensors."""
    with transaction() as session:
        rows = session.execute(
            select(
                Reading.sensor,
                func.count(Reading.id),
                func.min(Reading.value),
                func.max(Reading.value),
                func.avg(Reading.value),
            )
            .where(Reading.rover == rover)
            .group_by(Reading.sensor)
        ).all()
        session.execute(delete(Summary).where(Summary.rover == rover))
        session.add_all(
            Summary(rover=rover, sensor=sensor, count=count, minimum=low, maximum=high, mean=mean)
            for sensor, count, low, high, mean in rows
        )
    return len(rows)


@app.task(name="ares.tasks.summarise_all")  # type: ignore[untyped-decorator]
def summarise_all() -> int:
    """Ask for a summary of each rover; gives the number of rovers."""
    with transaction() as session:
        rovers = session.scalars(select(Reading.rover).distinct()).all()
    for rover in rovers:
        summarise.delay(rover)
    return len(rovers)


@app.task(name="ares.tasks.prune_readings")  # type: ignore[untyped-decorator]
def prune_readings(days: int) -> int:
    """Delete the readings that are older than so many days; gives their number."""
    with transaction() as session:
        query = delete(Reading).where(Reading.taken_at < now() - timedelta(days=days))
        pruned: int = session.connection().execute(query).rowcount
        return pruned


@app.task(name="ares.tasks.notify", max_retries=3)  # type: ignore[untyped-decorator]
def notify(message: str) -> bool:
    """Tell the webhook, where there is one."""
    url = load_settings().webhook_url
    if url is None:
        return False
    return post(httpx.Client(timeout=5), url, message)


def post(client: httpx.Client, url: str, message: str) -> bool:
    """Post a message as JSON; an answer other than 2xx is an error."""
    with client:
        headers = {"content-type": "application/json"}
        body = orjson.dumps({"service": "ares", "message": message})
        client.post(url, content=body, headers=headers).raise_for_status()
    return True
