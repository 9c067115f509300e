"""What a worker loads: ``tapescope worker --app orders.worker:ops --store URL``."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orders.settings")
django.setup()

from orders.tasks import ops  # noqa: E402 - its models need Django to be set up

__all__ = ["ops"]
