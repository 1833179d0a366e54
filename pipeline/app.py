"""The Faust app: consumer group, assignment, web server; fed with whole fetches, and asked nothing else."""

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.types import TP
from faust.types.auth import CredentialsT

from pipeline.settings import Settings
from pipeline.transport import Transport

__all__ = ["make_app"]

log = logging.getLogger(__name__)

# Fetches that wait for the agent. A fetch is up to 1 MiB a partition; more of them only take memory.
STREAM_BUFFER: Final = 16

# A broker that has just come up may not know its topics yet, and whoever joins the group then is given nothing of them
# until it looks again.
METADATA_MS: Final = 10_000


def make_app(
    settings: Settings, next_offsets: Callable[[set[TP]], Awaitable[Mapping[TP, int]]], scratch: str
) -> faust.App:
    """Return the app of one worker; `next_offsets` tells, in the app's loop, where each assigned partition goes on.

    Faust makes a directory of its own, below `scratch`.
    """
    session_timeout = settings.session_timeout / 1_000_000
    app = faust.App(
        settings.group,
        broker=";".join(f"kafka://{broker}" for broker in settings.bootstrap_servers.split(",")),
        broker_credentials=_credentials(settings),
        broker_session_timeout=session_timeout,
        broker_heartbeat_interval=session_timeout / 5,
        broker_max_poll_interval=86_400.0,  # a partition waits for its storage or dead letters as long as that takes
        broker_commit_livelock_soft_timeout=86_400.0,  # Faust commits nothing, so it must not wonder why
        consumer_auto_offset_reset="none",
        consumer_metadata_max_age_ms=METADATA_MS,
        stream_buffer_maxsize=STREAM_BUFFER,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        key_serializer="raw",
        store="memory://",
        datadir=scratch,
        logging_config=None,
        web_enabled=_free(settings),
        web_host=settings.web_host,
        web_bind=settings.web_host,
        web_port=settings.web_port or 1,  # Faust refuses 0; the server is off then
        web_tables_enabled=False,
        web_router_enabled=False,
        autodiscover=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    app.next_offsets = next_offsets
    return app


def _credentials(settings: Settings) -> CredentialsT | None:
    security = settings.security
    context = security.ssl_context()
    if security.authenticated and security.password is not None:
        return SASLCredentials(
            username=security.username,
            password=security.password.get_secret_value(),
            mechanism=security.mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context) if context is not None else None


def _free(settings: Settings) -> bool:
    """Return whether the web server can have its port: a second worker on one host must not die of it."""
    if not settings.web_port:
        return False
    try:
        with socket.create_server((settings.web_host, settings.web_port)):
            return True
    except OSError as error:
        log.warning(
            "no web server: %s:%d cannot be had (%s); set EVIDENCE_WEB_PORT to a free port, or to 0 for none",
            settings.web_host,
            settings.web_port,
            error.strerror,
        )
        return False
