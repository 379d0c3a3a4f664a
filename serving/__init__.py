"""The HTTP prediction endpoint: `python -m serving --checkpoint DIR`, or create_app(settings) under any ASGI server.

Both names are imported when they are asked for: `python -m serving` imports this first, and would be deaf to Ctrl-C.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.app import create_app
    from serving.settings import Settings

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from serving.app import create_app

        return create_app
    if name == "Settings":
        from serving.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
