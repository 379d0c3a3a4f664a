"""Clients of a server (docs/http-api.md): predictions over HTTP, without torch in the process that asks.

    with Client("http://localhost:8000") as client:
        client.predict(["where is my parcel?", "charged twice"], top_k=3)

Predictions change nothing on a server, so a request that got no whole answer is sent again.
"""

from nlp_app.errors import ConfigError

try:
    import httpx2  # noqa: F401 - the two clients need it
except ModuleNotFoundError:
    raise ConfigError(
        "nlp_app.client needs the package httpx2, which is not there: pip install 'nlp_app[client]'"
    ) from None

from nlp_app.client.asynchronous import AsyncClient
from nlp_app.client.errors import ServerError, ServerRefused, ServerUnreachable, UnexpectedAnswer
from nlp_app.client.predictions import Explanation, LabelScore, Prediction, ServerInfo, TokenContribution
from nlp_app.client.sync import Client

__all__ = [
    "AsyncClient", "Client", "Explanation", "LabelScore", "Prediction", "ServerError", "ServerInfo", "ServerRefused",
    "ServerUnreachable", "TokenContribution", "UnexpectedAnswer",
]  # fmt: skip
