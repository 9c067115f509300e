"""What one manager of many does for a store: audit, retention, repair."""

from __future__ import annotations

from tapescope.maintenance.audit import audit_pages, audit_store
from tapescope.maintenance.repair import repair_store
from tapescope.maintenance.retention import Retention

__all__ = ["Retention", "audit_pages", "audit_store", "repair_store"]
