"""The conformance suite: what every store does, as tests that any store's author can run.

::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def make_backend(self, tmp_path: Path) -> MakeBackend:
            return lambda: MyBackend(tmp_path / "tasks")

Each call of ``make_backend`` makes a backend that is not opened yet, on a database that only the
test that runs uses. Each test ends before the history checker, ``tapescope.testing.check``. The
topics are classes of their own, for a backend that is half written. The suite needs pytest and
pytest-asyncio, in either of its modes; importing it without them raises ``MissingExtra``. See
docs/howto/write-a-store.md.
"""

from __future__ import annotations

from tapescope.errors import MissingExtra

try:
    import pytest

    # Before they are imported: so a failed assert shows what it compared.
    pytest.register_assert_rewrite(
        *(
            f"{__name__}.{module}"
            for module in (
                "arrivals",
                "backlog",
                "claims",
                "context",
                "engines",
                "expiry",
                "giving_up",
                "input",
                "large_appends",
                "leadership",
                "leases",
                "life",
                "maintenance",
                "messages",
                "notifications",
                "opening",
                "ops",
                "order",
                "pauses",
                "queues",
                "races",
                "rates",
                "reading",
                "schedules",
                "slots",
                "suite",
                "tape",
                "traces",
                "unique_keys",
            )
        )
    )
    from tapescope.testing.conformance.arrivals import ArrivalsConformance
    from tapescope.testing.conformance.backlog import BacklogConformance
    from tapescope.testing.conformance.claims import ClaimsConformance
    from tapescope.testing.conformance.context import ContextConformance
    from tapescope.testing.conformance.engines import EnginesConformance
    from tapescope.testing.conformance.expiry import ExpiryConformance
    from tapescope.testing.conformance.giving_up import GivingUpConformance
    from tapescope.testing.conformance.input import InputConformance
    from tapescope.testing.conformance.large_appends import LargeAppendsConformance
    from tapescope.testing.conformance.leadership import LeadershipConformance
    from tapescope.testing.conformance.leases import LeasesConformance
    from tapescope.testing.conformance.life import LifeConformance
    from tapescope.testing.conformance.maintenance import MaintenanceConformance
    from tapescope.testing.conformance.messages import MessagesConformance
    from tapescope.testing.conformance.notifications import NotificationsConformance
    from tapescope.testing.conformance.opening import OpeningConformance
    from tapescope.testing.conformance.ops import OpsConformance
    from tapescope.testing.conformance.order import OrderConformance
    from tapescope.testing.conformance.pauses import PausesConformance
    from tapescope.testing.conformance.queues import QueuesConformance
    from tapescope.testing.conformance.races import RacesConformance
    from tapescope.testing.conformance.rates import RatesConformance
    from tapescope.testing.conformance.reading import ReadingConformance
    from tapescope.testing.conformance.schedules import SchedulesConformance
    from tapescope.testing.conformance.slots import SlotsConformance
    from tapescope.testing.conformance.suite import MakeBackend, Stores, StoreSuite
    from tapescope.testing.conformance.tape import TapeConformance
    from tapescope.testing.conformance.traces import TracesConformance
    from tapescope.testing.conformance.unique_keys import UniqueKeysConformance
except ModuleNotFoundError as error:
    if error.name not in ("pytest", "pytest_asyncio"):
        raise
    raise MissingExtra("The conformance suite", "conformance") from error

__all__ = [
    "ArrivalsConformance",
    "BacklogConformance",
    "ClaimsConformance",
    "ContextConformance",
    "EnginesConformance",
    "ExpiryConformance",
    "GivingUpConformance",
    "InputConformance",
    "LargeAppendsConformance",
    "LeadershipConformance",
    "LeasesConformance",
    "LifeConformance",
    "MaintenanceConformance",
    "MakeBackend",
    "MessagesConformance",
    "NotificationsConformance",
    "OpeningConformance",
    "OpsConformance",
    "OrderConformance",
    "PausesConformance",
    "QueuesConformance",
    "RacesConformance",
    "RatesConformance",
    "ReadingConformance",
    "SchedulesConformance",
    "SlotsConformance",
    "StoreConformance",
    "StoreSuite",
    "Stores",
    "TapeConformance",
    "TracesConformance",
    "UniqueKeysConformance",
]


class StoreConformance(
    OpeningConformance,
    LifeConformance,
    TapeConformance,
    TracesConformance,
    InputConformance,
    ReadingConformance,
    ContextConformance,
    ClaimsConformance,
    RacesConformance,
    RatesConformance,
    GivingUpConformance,
    LeasesConformance,
    OpsConformance,
    OrderConformance,
    UniqueKeysConformance,
    SlotsConformance,
    ExpiryConformance,
    PausesConformance,
    EnginesConformance,
    QueuesConformance,
    SchedulesConformance,
    MessagesConformance,
    BacklogConformance,
    NotificationsConformance,
    ArrivalsConformance,
    LargeAppendsConformance,
    MaintenanceConformance,
    LeadershipConformance,
):
    """Every topic: a store that passes keeps the rules of the port."""
