"""An order over HTTP, and how far its receipt is."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.tasks import place, tasks
from tapescope import UnknownTask


@csrf_exempt  # an API, with no session to ride on
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """``POST /orders`` with the fields ``email`` and ``things``."""
    order, task = place(request.POST["email"], int(request.POST["things"]))
    return JsonResponse({"order": order.pk, "task": task.task_id}, status=201)


def show_receipt(request: HttpRequest, task_id: str) -> JsonResponse:
    """``GET /receipts/TASK_ID``."""
    try:
        return JsonResponse({"status": tasks.get(task_id).status})
    except UnknownTask as error:
        return JsonResponse({"error": str(error)}, status=404)
