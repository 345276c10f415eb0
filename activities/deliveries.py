"""Activities that send deliveries of one channel, and record each outcome, so that a repetition sends nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.channels import ChannelSender
from activities.notices import DeliveryBatch, DigestOf, reach_of
from activities.texts import Row, Texts
from adapters import bad_addresses, outbox
from adapters.outbox import BAD_ADDRESS, GIVEN_UP, POSTPONED, SENT, Settled, Target
from adapters.postgres import Database
from adapters.providers import BadAddress, DeliveryRefused, ProviderUnavailable
from adapters.sealing import Keyring
from adapters.telemetry import DELIVERIES
from domain.model import Fact
from domain.notifications import channels_of
from domain.preferences import Channel

log = logging.getLogger(__name__)

_MARGIN = timedelta(seconds=1)
"""Added to the pause before the next attempt, which would otherwise find the deliveries still postponed."""
_BATCH = 10
"""Deliveries of an old `notify` workflow that are sent at the same time."""


class Outgoing(Fact):
    """Deliveries of one channel and tenant that are sent together."""

    tenant_id: str
    channel: Channel
    targets: tuple[Target, ...]


class Deliveries:
    """Sends the deliveries of one channel."""

    def __init__(self, database: Database, sender: ChannelSender, texts: Texts, keyring: Keyring) -> None:
        self._database = database
        self._sender = sender
        self._texts = texts
        self._keyring = keyring
        self._channel = sender.channel

    @activity.defn
    async def send_batch(self, batch: Outgoing) -> str:
        """Send the pending deliveries of a batch, all at once; returns how many are sent and given up.

        Raises ApplicationError ProviderUnavailable while any is pending, with the provider's `Retry-After` as the delay
        of the next attempt. A delivery is sent again when the worker dies between sending and recording it, see
        `adapters/providers.py`.
        """
        async with self._database.statements(batch.tenant_id) as connection:
            claimed = await outbox.claim(connection, self._channel, batch.targets)
        wanted, results = await self._checked(batch.tenant_id, claimed)
        bad = await self._bad(batch.tenant_id, list(wanted.values()))
        settled = await asyncio.gather(
            # Each is recorded as soon as it is sent: a slow one must not have the others sent again.
            *(self._attempt({one: row}, bad, partial(self._sender.send, one, row)) for one, row in wanted.items())
        )
        results |= dict(zip(wanted, settled, strict=True))
        async with self._database.statements(batch.tenant_id) as connection:
            count = await outbox.count(connection, self._channel, batch.targets)
        if count.pending:
            raise _postponed(f"{count.pending} of {len(batch.targets)}", results)
        return f"{count.sent} sent" + (f", {count.given_up} given up" if count.given_up else "")

    @activity.defn
    async def send_digest(self, of: DigestOf) -> str:
        """Send what was held for a user on this channel, as one message; raises as `send_batch`."""
        async with self._database.statements(of.tenant_id) as connection:
            claimed = await outbox.claim_held(connection, self._channel, of.user_id, of.until)
        wanted, results = await self._checked(of.tenant_id, claimed)
        if wanted:
            bad = await self._bad(of.tenant_id, list(wanted.values()))
            settled = await self._attempt(wanted, bad, partial(self._sender.send_digest, wanted, of.until))
            results |= dict.fromkeys(wanted, settled)
        async with self._database.statements(of.tenant_id) as connection:
            pending = await outbox.held_count(connection, self._channel, of.user_id, of.until)
        if pending:
            raise _postponed(f"{pending} held", results)
        sent = sum(one.outcome == SENT for one in results.values())
        return f"{sent} in one digest" + (f", {len(results) - sent} given up" if sent < len(results) else "")

    @activity.defn
    async def send_deliveries(self, batch: DeliveryBatch) -> str:
        """Send the pending mails of events; for workflows that a release without channels has started."""
        async with self._database.statements(batch.tenant_id) as connection:
            targets = (await outbox.pending_of(connection, batch.event_ids)).get(self._channel, [])
        failed: Exception | None = None
        for n in range(0, len(targets), _BATCH):
            outgoing = Outgoing(
                tenant_id=batch.tenant_id, channel=self._channel, targets=tuple(targets[n : n + _BATCH])
            )
            try:
                await self.send_batch(outgoing)
            except ApplicationError as error:
                failed = error
            activity.heartbeat(n)
        if failed:
            raise failed
        return f"{len(targets)} mailed or given up"

    async def _checked(
        self, tenant_id: str, claimed: Mapping[Target, Row]
    ) -> tuple[dict[Target, Row], dict[Target, Settled]]:
        """Those of claimed deliveries that are still wanted, and the recorded results of the others."""
        async with self._database.statements(tenant_id) as connection:
            reach = await reach_of(connection, {target.recipient_id for target in claimed})
        wanted, results = dict[Target, Row](), dict[Target, Settled]()
        for target, row in claimed.items():
            try:
                kind = self._texts.check(target, row)
                if target.recipient_id not in reach:
                    raise DeliveryRefused("the account is deleted")
                if self._channel not in channels_of(kind, reach[target.recipient_id]):
                    raise DeliveryRefused("turned off by its recipient in the meantime")
                wanted[target] = row
            except DeliveryRefused as error:
                results[target] = Settled(GIVEN_UP, str(error))
            except ProviderUnavailable as error:
                results[target] = Settled(POSTPONED, str(error))
        await self._settle(tenant_id, results)
        return wanted, results

    async def _attempt(
        self, rows: Mapping[Target, Row], bad: set[bytes], send: Callable[[], Awaitable[str | None]]
    ) -> Settled:
        """Send deliveries to one recipient by one message, and record the result."""
        row = next(iter(rows.values()))
        digest = self._digest(row)
        settled, is_bad = await self._sent(digest is not None and digest in bad, send)
        async with self._database.transaction(row["tenant_id"]) as tx:
            if is_bad and digest:
                await bad_addresses.add(tx, row["tenant_id"], self._channel, digest, settled.reason)
            await outbox.settle(tx, self._channel, self._sender.provider, dict.fromkeys(rows, settled))
        DELIVERIES.labels(self._channel.value, settled.outcome).inc(len(rows))
        return settled

    async def _sent(self, is_known_bad: bool, send: Callable[[], Awaitable[str | None]]) -> tuple[Settled, bool]:
        """The result of sending, and whether the address was found to be bad."""
        if is_known_bad:
            return Settled(BAD_ADDRESS, "an earlier delivery to this address has failed for good"), False
        try:
            return Settled(SENT, provider_id=await send()), False
        except ProviderUnavailable as error:
            return Settled(POSTPONED, str(error), pause=error.retry_after or 0.0), False
        except DeliveryRefused as error:
            return Settled(GIVEN_UP, str(error)), False
        except BadAddress as error:
            return Settled(BAD_ADDRESS, str(error)), True
        except Exception as error:
            # A defect that one delivery meets, such as a template without a value, must not stop the others.
            log.exception("a delivery failed")
            return Settled(POSTPONED, f"server error: {type(error).__name__}"), False

    async def _bad(self, tenant_id: str, rows: Sequence[Row]) -> set[bytes]:
        """The digests of those addresses of rows to which nothing can be delivered."""
        digests = {digest for row in rows if (digest := self._digest(row))}
        async with self._database.statements(tenant_id) as connection:
            return await bad_addresses.bad_ones(connection, self._channel, digests)

    def _digest(self, row: Row) -> bytes | None:
        address = self._sender.address(row)
        return self._keyring.address_digest(self._channel.value, address) if address else None

    async def _settle(self, tenant_id: str, results: Mapping[Target, Settled]) -> None:
        async with self._database.statements(tenant_id) as connection:
            await outbox.settle(connection, self._channel, self._sender.provider, results)
        for one in results.values():
            DELIVERIES.labels(self._channel.value, one.outcome).inc()


def _postponed(how_many: str, results: Mapping[Target, Settled]) -> ApplicationError:
    """The error of an activity that is attempted again."""
    postponed = [one for one in results.values() if one.outcome == POSTPONED]
    reason = postponed[-1].reason if postponed else "another worker has claimed them"
    # The others are postponed until their own time by their rows.
    pause = min((one.pause for one in postponed), default=0.0)
    return ApplicationError(
        f"{how_many} are pending: {reason}",
        type=ProviderUnavailable.__name__,
        next_retry_delay=timedelta(seconds=pause) + _MARGIN if pause else None,
    )
