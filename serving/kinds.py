"""The content types that an endpoint takes."""

from collections.abc import Mapping

from serving.problems import Refused

JSON = "application/json"


def check_kind(headers: Mapping[bytes, bytes], *kinds: str) -> None:
    """Before a byte of the body is read.

    Args:
        headers: of the request; where they tell no type, the body is taken for the first.
        kinds: what the endpoint takes.

    Raises:
        Refused: 415, the body is of another type, or its characters are not in UTF-8.
    """
    name, *parameters = headers.get(b"content-type", kinds[0].encode()).decode("latin-1").lower().split(";")
    told = dict(parameter.strip().partition("=")[::2] for parameter in parameters)
    if name.strip() not in kinds or told.get("charset", "utf-8").strip(' "') not in ("utf-8", "utf8"):
        raise Refused(
            415, f"the content type must be {' or '.join(kinds)} in UTF-8: send the header Content-Type: {kinds[0]}"
        )
