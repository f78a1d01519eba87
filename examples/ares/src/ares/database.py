"""The tables, and sessions on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import DateTime, Engine, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from ares.settings import load_settings


def now() -> datetime:
    """The time in UTC, without a zone, as SQLite keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    """The base of all tables."""


class Reading(Base):
    """One value that a rover measured."""

    __tablename__ = "readings"

    id: Mapped[int] = mapped_column(primary_key=True)
    rover: Mapped[str] = mapped_column(String(64), index=True)
    sensor: Mapped[str] = mapped_column(String(64))
    value: Mapped[float]
    taken_at: Mapped[datetime] = mapped_column(DateTime, default=now, index=True)


class Summary(Base):
    """What all readings of one sensor amount to, as a worker last counted them."""

    __tablename__ = "summaries"

    rover: Mapped[str] = mapped_column(String(64), primary_key=True)
    sensor: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int]
    minimum: Mapped[float]
    maximum: Mapped[float]
    mean: Mapped[float]


@cache
def load_engine() -> Engine:
    """The engine of this process; makes the tables that are missing."""
    url = load_settings().database_url
    if url == "sqlite://":  # in memory: all threads must see the one connection
        one_thread = {"check_same_thread": False}
        engine = create_engine(url, poolclass=StaticPool, connect_args=one_thread)
    else:
        engine = create_engine(url)
    Base.metadata.create_all(engine)
    return engine


@contextmanager
def transaction() -> Iterator[Session]:
    """A session that is committed at the end, and rolled back on an error."""
    with Session(load_engine()) as session, session.begin():
        yield session
