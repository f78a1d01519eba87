"""Ask the API of this container for its health: exit status 0 or 1.

Standard library only, so that a probe every few seconds costs little.
"""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen


def healthy(url: str) -> bool:
    """Whether the URL answers 200 within two seconds."""
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, TimeoutError, ConnectionError):
        return False


if __name__ == "__main__":
    port = os.environ.get("ARES_PORT", "8000")
    sys.exit(0 if healthy(f"http://127.0.0.1:{port}/health") else 1)
