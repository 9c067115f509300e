"""``python manage.py place ann@example.com 7``: an order from a shell."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from orders.tasks import place


class Command(BaseCommand):
    """Place an order, and wait for its receipt where a worker runs."""

    help = "Place an order."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("things", type=int)
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="for the receipt")

    def handle(self, *args: Any, email: str, things: int, **options: Any) -> None:
        order, task = place(email, things)
        self.stdout.write(f"order {order.pk}, task {task.task_id}")
        if options["wait"]:
            self.stdout.write(f"receipt sent to {task.result(options['wait'])}")
