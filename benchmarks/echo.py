"""A bare Starlette application that gives back what it gets: what HTTP alone costs, with our server's settings.

``python -m benchmarks.echo`` prints its address and serves until its standard input ends.
"""

from __future__ import annotations

import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.child import tell


async def _echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


def main() -> None:
    """See the module's docstring."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    app = Starlette(routes=[Route("/deliver-mail", _echo, methods=["POST"])])
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=3600,
        )
    )

    def stop_with_our_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_our_parent, daemon=True).start()
    tell("http://{}:{}".format(*listening.getsockname()[:2]))
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
