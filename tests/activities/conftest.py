"""Tests of activities, without reconcile of a platform that runs beside them."""

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tests.platform import until


@pytest.fixture(scope="module", autouse=True)
async def no_reconcile(temporal_client: Client) -> AsyncIterator[None]:
    """No run of reconcile: it would start, publish or send by itself what these tests hold back or do by hand."""
    schedule = temporal_client.get_schedule_handle("reconcile")
    try:
        await schedule.pause()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        yield  # no test has started the platform yet
        return

    async def ended() -> bool:
        return not (await schedule.describe()).info.running_actions

    await until(ended, 120)
    yield
    await schedule.unpause()
