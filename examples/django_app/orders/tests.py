"""``python manage.py test``: on a database of the tests', with its tasks."""

from __future__ import annotations

import asyncio

from django.core import mail
from django.db import connection, transaction
from django.test import TransactionTestCase

from orders.models import Order
from orders.tasks import place, send_receipt, tasks
from tapescope.testing import run_op


class OrdersTest(TransactionTestCase):
    """Nothing runs the tasks here: that they are there is the matter, and what one does alone."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        tasks.reconfigure(store=f"sqlite:///{connection.settings_dict['NAME']}")
        cls.addClassCleanup(tasks.close)

    def test_an_order_comes_with_its_task(self) -> None:
        """The view answers with both."""
        answer = self.client.post("/orders", {"email": "ann@example.com", "things": 7})
        told = answer.json()

        self.assertEqual(answer.status_code, 201)
        self.assertEqual(tasks.get(told["task"]).params, {"order_id": told["order"]})
        self.assertEqual(self.client.get(f"/receipts/{told['task']}").json(), {"status": "pending"})
        self.assertEqual(self.client.get("/receipts/none").status_code, 404)

    def test_no_order_no_task(self) -> None:
        """What is rolled back takes the task along."""
        with transaction.atomic():
            _, task = place("bob@example.com", 8)
            transaction.set_rollback(True)

        self.assertEqual(Order.objects.filter(email="bob@example.com").count(), 0)
        self.assertNotIn(task.task_id, [one.task_id for one in tasks.list().tasks])

    def test_a_receipt_is_mailed(self) -> None:
        """The task's function alone, as a worker would run it."""
        order = Order.objects.create(email="eve@example.com", things=9)
        sent_to = asyncio.run(run_alone(order.pk))

        self.assertEqual(sent_to, "eve@example.com")
        self.assertEqual([one.body for one in mail.outbox], ["9 things"])


async def run_alone(order_id: int) -> str:
    return await run_op(send_receipt, order_id)
