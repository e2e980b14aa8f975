"""Where a connection reports. `listener.WireServer` is one; `connection` knows no listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gate.wire.connection import Connection


class Watch(Protocol):
    """What a connection says of itself."""

    def opened(self, connection: Connection) -> bool:
        """Count it in; False if there are too many."""
        ...

    def closed(self, connection: Connection) -> None:
        """Count it out."""
        ...

    def stalls(self, connection: Connection) -> None:
        """Look at it from time to time: the peer owes bytes or reading."""
        ...

    def stands(self, connection: Connection) -> None:
        """It got an App, or has none any more."""
        ...
