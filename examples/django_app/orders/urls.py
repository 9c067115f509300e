"""The paths of the project."""

from __future__ import annotations

from django.urls import path

from orders.views import place_order, show_receipt

urlpatterns = [path("orders", place_order), path("receipts/<str:task_id>", show_receipt)]
