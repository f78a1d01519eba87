"""The Celery application: `celery -A ares.worker worker`, and `beat`."""

from celery import Celery
from celery.schedules import crontab

from ares.settings import Settings, load_settings


def create_worker(settings: Settings) -> Celery:
    """A Celery application with its broker, its tasks and its schedule."""
    app = Celery("ares", broker=settings.broker_url, backend=settings.result_backend)
    app.conf.update(
        imports=("ares.tasks",),
        task_always_eager=settings.task_always_eager,
        task_eager_propagates=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        timezone="UTC",
        beat_schedule={
            "summarise-all": {
                "task": "ares.tasks.summarise_all",
                "schedule": crontab(minute="*/10"),
            },
            "prune-readings": {
                "task": "ares.tasks.prune_readings",
                "schedule": crontab(minute="7", hour="3"),
                "kwargs": {"days": settings.keep_days},
            },
        },
    )
    return app


app = create_worker(load_settings())
