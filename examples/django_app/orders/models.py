"""What is sold."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """Somebody wants a number of things."""

    email = models.EmailField()
    things = models.PositiveIntegerField()
