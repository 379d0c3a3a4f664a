"""Connections: how many there are, from whom, and which of them say nothing."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, Protocol

LOOKED_AT = 64
"""Connections, the oldest first, among which one is sought that nobody needs."""


class Connection(Protocol):
    """What is asked of a connection."""

    client: tuple[str, int] | None
    due: float | None
    """When the request that is being read must be whole; None where none is."""
    transport: Any

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come that is not answered, and every answer was read."""

    def time_out(self) -> None:
        """Close it, since its request is not whole in time."""

    def stalls(self, now: float, patience_s: float) -> bool:
        """Whether an answer waits for so long that nothing of is read."""


class Connections:
    """Those of one process."""

    def __init__(self, *, most: int, most_per_client: int, header_s: float, body_s: float, unread: int) -> None:
        """None yet.

        Args:
            most: at a time.
            most_per_client: of one address; 0: as many as there may be.
            header_s: that headers may take.
            body_s: that a body may take, and that an answer may wait for a client that reads nothing.
            unread: bytes of answers that may wait to be read, in all.
        """
        self.most = most
        self._most_per_client = most_per_client
        self._most_unread = unread
        self.header_s = header_s
        self.body_s = body_s
        self.unread: set[Connection] = set()
        """Those whose answers wait to be read."""
        self._all: dict[Connection, str] = {}
        self._silent: dict[Connection, None] = {}
        """Those that have sent nothing yet."""
        self._per_client: Counter[str] = Counter()
        self._headers: Sequence[tuple[bytes, bytes]] = ()
        self._joined = b""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> bool:
        """Count it; where there is no room for it, or its client has too many, it is closed, and False comes back.

        One that has never sent anything makes room, else one that is idle: clients ask again where a connection that
        they keep was closed.
        """
        client = connection.client[0] if connection.client else ""
        many = self._most_per_client and self._per_client[client] >= self._most_per_client
        if many or (len(self._all) >= self.most and not self._make_room()):
            connection.transport.abort()
            return False
        self._all[connection] = client
        self._silent[connection] = None
        self._per_client[client] += 1
        return True

    def _make_room(self) -> bool:
        oldest = next((one for one in chain(self._silent, islice(self._all, LOOKED_AT)) if one.idle), None)
        if oldest is None:
            return False
        self.discard(oldest)
        oldest.transport.close()
        return True

    def reads_slowly(self, connection: Connection) -> None:
        """Its answer waits to be read; where too much waits in all, the largest answers are given up."""
        if connection not in self._all or not connection.transport.get_write_buffer_size():
            return  # it is gone, or has read it meanwhile
        self.unread.add(connection)
        sizes = {one: one.transport.get_write_buffer_size() for one in self.unread}
        total = sum(sizes.values())
        while total > self._most_unread:
            largest = max(sizes, key=sizes.__getitem__)
            total -= sizes.pop(largest)
            self.unread.discard(largest)
            largest.transport.abort()

    def spoke(self, connection: Connection) -> None:
        """It has begun to send its first request."""
        self._silent.pop(connection, None)

    def discard(self, connection: Connection) -> None:
        """It is closed."""
        self._silent.pop(connection, None)
        self.unread.discard(connection)
        client = self._all.pop(connection, None)
        if client is not None:
            self._per_client[client] -= 1
            if not self._per_client[client]:
                del self._per_client[client]

    def sweep(self, now: float) -> None:
        """Close those whose request is not whole in time, and those that read nothing of their answer."""
        for connection in list(self._all):
            if connection.due is not None and now >= connection.due:
                connection.time_out()
            elif connection.stalls(now, self.body_s):
                connection.transport.abort()

    def joined(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Headers as they are sent; made once of the list that uvicorn replaces each second."""
        if headers is not self._headers:
            self._headers = headers
            self._joined = b"".join(b"%s: %s\r\n" % header for header in headers)
        return self._joined
