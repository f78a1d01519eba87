"""Ares: a small service that keeps the telemetry of rovers."""

__version__ = "0.1.0"
