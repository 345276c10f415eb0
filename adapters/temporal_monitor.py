"""Monitors what the workers need of the Temporal server, and creates schedules that are missing.

A server whose database was wiped has no schedules, and possibly neither namespace nor search attributes. Those two are
registered by an operator, who knows whether this is the right server; until then they are logged and fail /readyz.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from datetime import timedelta

from temporalio.client import Client, Schedule, ScheduleAlreadyRunningError, ScheduleUpdate, ScheduleUpdateInput
from temporalio.service import RPCError

from adapters.temporal import NotPrepared, ensure_prepared

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""Interval between checks: short beside the minute between two runs of the schedule, and a light load."""
_RPC_TIMEOUT = timedelta(seconds=5)
"""A call takes milliseconds; without a limit the client would retry for longer than the interval."""


class TemporalMonitor:
    """Creates `schedules` (by id) when they are missing; `missing` lists what the workers lack, for /readyz."""

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = schedules
        self._updated: set[str] = set()
        self._state = ""
        self.missing = ["Temporal"]

    async def run(self, client: Client) -> None:
        """Check every few seconds until cancelled; outages are logged."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check(client)

    async def check(self, client: Client) -> None:
        """Create missing schedules and update `missing`. Each change of state is logged once.

        A server that does not answer leaves `missing` as it is: the workers reconnect by themselves.
        """
        try:
            await ensure_prepared(client)
            for schedule_id, schedule in self._schedules.items():
                await self._ensure(client, schedule_id, schedule)
        except NotPrepared as error:
            self.missing = [str(error)]
            self._log_change(str(error), logging.ERROR)
        except (RPCError, RuntimeError) as error:
            self._log_change("Temporal does not answer", logging.WARNING, f": {error}")
        else:
            self.missing = []
            self._log_change("Temporal has everything that the workers need", logging.INFO)

    async def _ensure(self, client: Client, schedule_id: str, schedule: Schedule) -> None:
        """Create the schedule, or update an existing one with the settings of this process (once per process)."""
        try:
            await client.create_schedule(schedule_id, schedule, rpc_timeout=_RPC_TIMEOUT)
            log.info("created the schedule %s", schedule_id)
        except ScheduleAlreadyRunningError:
            if schedule_id not in self._updated:
                handle = client.get_schedule_handle(schedule_id)
                await handle.update(lambda found: _with_settings_of(schedule, found), rpc_timeout=_RPC_TIMEOUT)
        self._updated.add(schedule_id)

    def _log_change(self, state: str, level: int, details: str = "") -> None:
        if state != self._state:
            log.log(level, "%s%s", state, details)
        self._state = state


def _with_settings_of(wanted: Schedule, found: ScheduleUpdateInput) -> ScheduleUpdate:
    """The wanted settings with the existing state: an operator may have paused the schedule."""
    kept = found.description.schedule
    return ScheduleUpdate(dataclasses.replace(kept, spec=wanted.spec, action=wanted.action, policy=wanted.policy))
