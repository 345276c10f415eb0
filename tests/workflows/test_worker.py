"""The workers of the task queues."""

import pytest
from temporalio.client import Client

from adapters.settings import Settings
from tests.adapters.test_push import PEM
from worker import Pools
from workflows import options

TWILIO = {"twilio_account_sid": "AC1", "twilio_auth_token": "token", "twilio_from": "HYDINF"}


@pytest.fixture
def everything(settings: Settings) -> Settings:
    """Settings with a provider for each channel."""
    given = settings.model_dump() | TWILIO | {"vapid_private_key": PEM}
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    ("queue", "setting"),
    [("email", "emails_per_second"), ("sms", "sms_per_second"), ("push", "pushes_per_second")],
)
async def test_rate_of_a_provider_is_capped_on_its_task_queue(
    everything: Settings, temporal_client: Client, queue: str, setting: str
) -> None:
    pools = Pools(everything.model_copy(update={setting: 25.0}), temporal_client)

    worker = pools.worker(queue)

    assert worker is not None
    config = worker.config()
    assert config["task_queue"] == queue
    # The server counts activities, each of which sends up to ten messages.
    assert config["max_task_queue_activities_per_second"] == 25 / options.SEND_BATCH
    await pools.close()


async def test_channel_without_a_provider_has_no_worker(settings: Settings, temporal_client: Client) -> None:
    pools = Pools(settings.model_copy(update={"vapid_private_key": None}), temporal_client)

    assert [pools.worker(queue) for queue in ("sms", "push")] == [None, None]
    await pools.close()
