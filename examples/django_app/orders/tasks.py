"""The tasks of the project, and how they are submitted. It connects to nothing when imported."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import send_mail
from django.db import connection, transaction

from orders.models import Order
from tapescope import Ops, ThreadReporter
from tapescope.sync import SyncHandle, SyncManager

ops = Ops()
tasks = SyncManager(settings.TASKS_URL, ops=ops)


@ops.op("orders.send_receipt", timeout=60, retries=5)
def send_receipt(report: ThreadReporter, order_id: int) -> str:
    """Mail the receipt. A plain function: it has a thread, where Django's calls may block."""
    try:
        order = Order.objects.get(pk=order_id)
        report.log("info", f"mail to {order.email}")
        send_mail("Your order", f"{order.things} things", "shop@example.com", [order.email])
    finally:
        connection.close()  # the thread ends, and its connection with it
    return order.email


def place(email: str, things: int) -> tuple[Order, SyncHandle[str]]:
    """An order and the task of its receipt, in one transaction."""
    tasks.open()  # before the transaction: the first time it may make its tables
    with transaction.atomic():
        order = Order.objects.create(email=email, things=things)
        task = tasks.submit_bound(send_receipt.bind(order.pk), connection=connection)
        transaction.on_commit(tasks.announce)
    return order, task
