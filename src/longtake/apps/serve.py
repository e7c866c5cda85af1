"""The command `longtake serve`: a queue of videos in a folder, the workers that make them, and the HTTP interface."""

import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.generate.job import checked_job
from longtake.apps.generate.stopping import stoppable
from longtake.apps.plan.costs import estimate
from longtake.apps.plan.view import plan_content
from longtake.apps.shown import say
from longtake.errors import InputError, MissingExtraError, OutputError
from longtake.models import model_spec
from longtake.ranks.torchrun import launched
from longtake.report import Order
from longtake.serve.job import VideoJob
from longtake.serve.queue import Queue
from longtake.serve.settings import Access, Computing, Quota
from longtake.serve.supervisor import Supervisor
from longtake.typed import Setting, Typed
from longtake.words import counted


@dataclass(frozen=True, kw_only=True)
class ServeSettings(Typed):
    """Make videos for whoever asks by HTTP, one after the other, in FOLDER. The same command goes on after any
    interruption, where it was."""

    folder: Annotated[str | None, Setting(positional=True, metavar="FOLDER")] = None
    """Where the videos and the queue are; it is made if it is not there."""
    access: Annotated[Access, Setting(boxed=True)] = Access()
    quota: Annotated[Quota, Setting(boxed=True)] = Quota()
    computing: Annotated[Computing, Setting(boxed=True)] = Computing()


def serve_command(arguments: Sequence[str]) -> int:
    """Serve until a signal comes; return the exit status."""
    settings = parse_arguments(ServeSettings, "serve", arguments)
    if settings.folder is None:
        raise InputError("where to is missing; give a folder for the videos and their queue")
    if launched().size > 1:
        raise InputError("a server starts its own workers; start the command without torchrun")
    for model in settings.computing.models or (VideoJob.model,):
        # What no request could have is said to whoever can mend it.
        model_spec(model, **settings.computing.loading.told)
    try:
        from uvicorn import Config, Server

        from longtake.serve.api import create_app
    except ImportError as error:
        raise MissingExtraError(error.name or "a package", "serve") from None
    access = settings.access
    # A server that cannot listen makes no folder.
    with ExitStack() as opened:
        listener = opened.enter_context(_listening(access))
        queue = Queue(Path(settings.folder), settings.quota, settings.computing)
        opened.enter_context(stoppable())
        workers = opened.enter_context(Supervisor(queue))
        # Requests name things that no log has to know.
        app = create_app(queue, access, planned)
        # Who reads a video while it is made would hold up the end for as long.
        config = Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2)
        for line in _introduction(queue, access, listener, workers.alive):
            say(line)
        # It shuts down in good order at a signal, which then comes to us.
        Server(config).run(sockets=[listener])
    return 0


def planned(order: Order) -> Mapping[str, Any]:
    """Return what a video takes, as `longtake plan --json` says it. Raises as that does."""
    job = checked_job(order, model_spec(order.model, **order.loading.told), prompts_file=None)
    return plan_content(job, estimate(job))


def _listening(access: Access) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        return socket.create_server((access.host, access.port), family=family)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(
            f"cannot listen at {access.host}:{access.port}: {why}; give another --port or --host"
        ) from None


def _introduction(queue: Queue, access: Access, listener: socket.socket, workers: int) -> list[str]:
    host, port = listener.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    counts = queue.counts()
    waiting = counts["queued"] + counts["in_progress"]
    token = "a token is asked for" if access.secret else "no token is asked for"
    lines = [
        f"serve    {where}, {token}; {where}/docs describes it",
        f"folder   {queue.folder}: {counted(sum(counts.values()), 'video')}, {waiting} of them to be made",
        f"workers  {workers}; Ctrl-C ends the server, and the same command goes on",
    ]
    reason = queue.halted()
    return [*lines, f"warning: {reason}"] if reason else lines
