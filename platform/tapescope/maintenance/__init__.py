"""The maintenance of a whole store: audit, retention and repair.

While managers are open on a store, one of them, the leader, does the audit and the retention.
"""

from __future__ import annotations

from tapescope.maintenance.audit import audit_pages, audit_store
from tapescope.maintenance.maintainer import Maintainer
from tapescope.maintenance.repair import repair_store
from tapescope.maintenance.retention import Retention

__all__ = ["Maintainer", "Retention", "audit_pages", "audit_store", "repair_store"]
