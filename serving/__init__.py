"""The HTTP prediction endpoint: `python -m serving --checkpoint DIR`, or create_app(settings) under any ASGI server."""

from serving.app import create_app
from serving.settings import Settings

__all__ = ["Settings", "create_app"]
