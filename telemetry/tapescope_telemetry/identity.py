"""The resource of this process, as every signal carries it. Imported by ``setup`` alone."""

from __future__ import annotations

import os
import platform
import socket
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from tapescope_telemetry._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["make_resource"]


def make_resource(service_name: str, attributes: Mapping[str, str | int | bool]) -> Resource:
    """Ours, then the application's, then the environment's, which has the last word.

    ``service.instance.id`` is the SDK's: a new one in each process. The command line of the process
    is left out, for it may hold a store's password.
    """
    own: dict[str, str | int | bool] = {
        "service.name": service_name,
        "service.version": __version__,
        "host.name": socket.gethostname(),
        "host.arch": platform.machine(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    # The SDK would have what it is given overrule the environment.
    named = OTELResourceDetector().detect().attributes
    chosen = {key: value for key, value in {**own, **attributes}.items() if key not in named}
    return Resource.create(chosen)
