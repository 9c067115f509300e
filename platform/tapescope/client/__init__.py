"""The client of a server's tasks: ``Client`` for asyncio, ``SyncClient`` with plain calls.

Imported by name alone. Without the packages of the extra ``client`` it raises ``MissingExtra``. ::

    async with Client("https://tasks.example") as client:
        task = await client.submit("resize", params={"folder": "photos"})
        async for event in task.follow():
            print(event.seq, event.type)
"""

from __future__ import annotations

from tapescope.errors import MissingExtra

try:
    from tapescope.client.client import Client, ClientTask
    from tapescope.client.sync_client import SyncClient, SyncClientTask
except ModuleNotFoundError as error:
    if error.name not in ("anyio", "h11", "httpcore", "httpx"):
        raise
    raise MissingExtra("The client", "client") from error

__all__ = ["Client", "ClientTask", "SyncClient", "SyncClientTask"]
