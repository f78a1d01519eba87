import orjson
import pytest
from fastapi.testclient import TestClient

from ares import __version__


def add(client: TestClient, value: float, sensor: str = "temperature") -> None:
    body = {"rover": "spirit", "sensor": sensor, "value": value}
    assert client.post("/readings", json=body).status_code == 201


def test_health_counts_readings(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "version": __version__, "readings": 0}
    add(client, -63.0)
    assert client.get("/health").json()["readings"] == 1


def test_readings_come_newest_first(client: TestClient) -> None:
    for value in (-63.0, -60.5, -58.25):
        add(client, value)
    values = [r["value"] for r in client.get("/readings", params={"limit": 2}).json()]
    assert values == [-58.25, -60.5]
    assert client.get("/readings", params={"rover": "opportunity"}).json() == []


@pytest.mark.parametrize(
    "body",
    [
        {"rover": "spirit", "sensor": "temperature"},
        {"rover": "Spirit!", "sensor": "temperature", "value": 1},
        {"rover": "spirit", "sensor": "", "value": 1},
    ],
)
def test_a_bad_reading_is_refused(client: TestClient, body: dict[str, object]) -> None:
    assert client.post("/readings", json=body).status_code == 422


def test_export_is_one_object_a_line(client: TestClient) -> None:
    add(client, 1.0)
    add(client, 2.0)
    lines = client.get("/readings.ndjson").content.splitlines()
    assert [orjson.loads(line)["value"] for line in lines] == [1.0, 2.0]


def test_summary_is_made_by_a_worker(client: TestClient) -> None:
    assert client.get("/rovers/spirit/summary").status_code == 404
    add(client, 10.0)
    add(client, 20.0)
    add(client, 5.0, sensor="wind")
    assert client.post("/rovers/spirit/summary").status_code == 202
    temperature, wind = client.get("/rovers/spirit/summary").json()
    assert temperature == {
        "sensor": "temperature",
        "count": 2,
        "minimum": 10.0,
        "maximum": 20.0,
        "mean": 15.0,
    }
    assert wind["count"] == 1
