"""`python -m serving.health`: exit code 0 where the server in this container is ready; its health check.

The standard library alone, and no proxy, whatever the environment says.
"""

import http.client
import os
import sys
from contextlib import closing

TIMEOUT_S = 2.5


def ready(environment: dict[str, str]) -> bool:
    """Whether the server that these settings describe says so."""
    host = environment.get("NLP_APP_HOST", "127.0.0.1")
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
    try:
        port = int(environment.get("NLP_APP_PORT", "8000"))
        with closing(http.client.HTTPConnection(here.get(host, host), port, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
    except (OSError, ValueError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(not ready(dict(os.environ)))
