"""The HTTP API."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ares import __version__, tasks
from ares.database import Reading, Summary, load_engine, transaction

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")]


class ReadingIn(BaseModel):
    """A reading as a rover sends it."""

    rover: Name
    sensor: Name
    value: float


class ReadingOut(ReadingIn):
    """A reading as it is kept."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    taken_at: datetime


class SummaryOut(BaseModel):
    """The readings of one sensor in four numbers."""

    model_config = ConfigDict(from_attributes=True)

    sensor: str
    count: int
    minimum: float
    maximum: float
    mean: float


class Health(BaseModel):
    """What a probe wants to know."""

    status: str
    version: str
    readings: int


def open_session() -> Iterator[Session]:
    """One transaction for each request."""
    with transaction() as session:
        yield session


Database = Annotated[Session, Depends(open_session)]


def create_app() -> FastAPI:
    """The application, with its tables made."""
    load_engine()
    app = FastAPI(title="Ares", version=__version__)

    @app.get("/health")
    def health(session: Database) -> Health:
        session.execute(text("SELECT 1"))
        readings = session.scalar(select(func.count(Reading.id)))
        return Health(status="ok", version=__version__, readings=readings or 0)

    @app.post("/readings", status_code=201)
    def add_reading(reading: ReadingIn, session: Database) -> ReadingOut:
        row = Reading(**reading.model_dump())
        session.add(row)
        session.flush()
        return ReadingOut.model_validate(row)

    @app.get("/readings")
    def list_readings(
        session: Database,
        rover: Name | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[ReadingOut]:
        query = select(Reading).order_by(Reading.id.desc()).limit(limit)
        if rover is not None:
            query = query.where(Reading.rover == rover)
        return [ReadingOut.model_validate(row) for row in session.scalars(query)]

    @app.get("/readings.ndjson")
    def export_readings(session: Database) -> Response:
        rows = session.scalars(select(Reading).order_by(Reading.id))
        lines = [orjson.dumps(ReadingOut.model_validate(row).model_dump()) for row in rows]
        return Response(b"\n".join([*lines, b""]), media_type="application/x-ndjson")

    @app.post("/rovers/{rover}/summary", status_code=202)
    def request_summary(rover: Name) -> dict[str, str]:
        return {"task": tasks.summarise.delay(rover).id}

    @app.get("/rovers/{rover}/summary")
    def read_summary(rover: Name, session: Database) -> list[SummaryOut]:
        query = select(Summary).where(Summary.rover == rover).order_by(Summary.sensor)
        rows = [SummaryOut.model_validate(row) for row in session.scalars(query)]
        if not rows:
            raise HTTPException(404, f"no summary of {rover} yet")
        return rows

    return app
