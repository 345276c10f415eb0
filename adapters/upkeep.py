"""Looks whether the Temporal server has what the workers need, and makes a schedule again that is gone.

A server that was wiped has no schedules, and maybe neither namespace nor search attributes. The latter are registered
by an operator, for only they know which server is the right one; what is missing of them is logged and told to /readyz.
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

LOOK_SECONDS = 5.0
"""Between two looks: a small part of the minute between two runs of a schedule, and few calls for the server."""
_RPC_TIMEOUT = timedelta(seconds=5)
"""An answer takes milliseconds; the client would try longer by itself than until the next look."""


class Upkeep:
    """Keeps `schedules` (by id) in being on one namespace; `missing` says what keeps the workers from working."""

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = schedules
        self._updated: set[str] = set()
        self._state = ""
        self.missing = ["Temporal"]

    async def run(self, client: Client) -> None:
        """Look every few seconds until cancelled, through every outage."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look(client)

    async def look(self, client: Client) -> None:
        """Make the schedules that are missing, and update `missing`. Each change is logged once.

        A server that does not answer changes nothing of `missing`: the workers poll on and need nobody's help.
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
            self._log_change("Temporal has all that the workers need", logging.INFO)

    async def _ensure(self, client: Client, schedule_id: str, schedule: Schedule) -> None:
        """Make the schedule; one that exists takes the settings of this process once."""
        try:
            await client.create_schedule(schedule_id, schedule, rpc_timeout=_RPC_TIMEOUT)
            log.info("made the schedule %s", schedule_id)
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
    """The settings that are wanted, and the state that was found: an operator may have paused the schedule."""
    kept = found.description.schedule
    return ScheduleUpdate(dataclasses.replace(kept, spec=wanted.spec, action=wanted.action, policy=wanted.policy))
