"""Settings: each can be given in the environment as `ARES_<NAME>`."""

from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All that a deployment may want to change."""

    model_config = SettingsConfigDict(env_prefix="ARES_")

    host: str = "0.0.0.0"
    port: int = Field(default=8000, ge=1, le=65535)
    workers: int = Field(default=1, ge=1)
    log_level: str = "info"
    database_url: str = "sqlite:///ares.db"
    broker_url: str = "redis://localhost:6379/0"
    result_backend: str = "redis://localhost:6379/1"
    task_always_eager: bool = Field(default=False, description="run tasks in the caller's process")
    keep_days: int = Field(default=30, ge=1, description="older readings are pruned")
    webhook_url: str | None = Field(default=None, description="told of readings out of range")


@cache
def load_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
