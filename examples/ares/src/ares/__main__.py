"""Serve the API: `python -m ares`, or the script `ares`."""

import uvicorn

from ares.settings import Settings


def main() -> None:
    """Run uvicorn as the settings say."""
    settings = Settings()
    uvicorn.run(
        "ares.api:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_level=settings.log_level,
    )


if __name__ == "__main__":
    main()
