"""Activities that send deliveries of one channel, and record each outcome, so that a repetition sends nothing."""

import asyncio
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
        results = await self._send(batch.tenant_id, claimed)
        async with self._database.statements(batch.tenant_id) as connection:
            count = await outbox.count(connection, self._channel, batch.targets)
        if count.pending:
            raise _postponed(f"{count.pending} of {len(batch.targets)}", results)
        return f"{count.sent} sent" + (f", {count.given_up} given up" if count.given_up else "")

    @activity.defn
    async def send_digest(self, of: DigestOf) -> str:
        """Send what was held for a user on this channel, as one message; raises as `send_batch`."""
        async with self._database.statements(of.tenant_id) as connection:
            held = await outbox.claim_held(connection, self._channel, of.user_id, of.until)
            reach = (await reach_of(connection, {of.user_id})).get(of.user_id)
        results, wanted = dict[Target, Settled](), dict[Target, Row]()
        for target, row in held.items():
            try:
                kind = self._texts.check(target, row)
                if reach is None or self._channel not in channels_of(kind, reach):
                    raise DeliveryRefused("turned off by its recipient in the meantime")
                wanted[target] = row
            except DeliveryRefused as error:
                results[target] = Settled(GIVEN_UP, str(error))
            except ProviderUnavailable as error:
                results[target] = Settled(POSTPONED, str(error))
        if wanted:
            bad = await self._bad(of.tenant_id, list(wanted.values()))
            send = partial(self._sender.send_digest, wanted, of.until)
            settled = await self._attempt(next(iter(wanted.values())), bad, send)
            results |= dict.fromkeys(wanted, settled)
        await self._settle(of.tenant_id, results)
        pending = sum(one.outcome == POSTPONED for one in results.values())
        if pending:
            raise _postponed(f"{pending} of {len(results)} held", results)
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

    async def _send(self, tenant_id: str, claimed: Mapping[Target, Row]) -> dict[Target, Settled]:
        bad = await self._bad(tenant_id, list(claimed.values()))
        settled = await asyncio.gather(
            *(self._attempt(row, bad, partial(self._sender.send, target, row)) for target, row in claimed.items())
        )
        results = dict(zip(claimed, settled, strict=True))
        await self._settle(tenant_id, results)
        return results

    async def _attempt(self, row: Row, bad: set[bytes], send: Callable[[], Awaitable[str | None]]) -> Settled:
        digest = self._digest(row)
        if digest in bad:
            return Settled(BAD_ADDRESS, "an earlier delivery to this address has failed for good")
        try:
            return Settled(SENT, provider_id=await send())
        except ProviderUnavailable as error:
            return Settled(POSTPONED, str(error), pause=error.retry_after or 0.0)
        except DeliveryRefused as error:
            return Settled(GIVEN_UP, str(error))
        except BadAddress as error:
            if digest:
                async with self._database.statements(row["tenant_id"]) as connection:
                    await bad_addresses.add(connection, row["tenant_id"], self._channel, digest, str(error))
            return Settled(BAD_ADDRESS, str(error))

    async def _bad(self, tenant_id: str, rows: Sequence[Row]) -> set[bytes]:
        """The digests of those addresses of rows to which nothing can be delivered."""
        digests = {digest for row in rows if (digest := self._digest(row))}
        async with self._database.statements(tenant_id) as connection:
            return await bad_addresses.bad_ones(connection, self._channel, digests)

    def _digest(self, row: Row) -> bytes | None:
        address = self._sender.address(row)
        return self._keyring.address_digest(self._channel.value, address) if address else None

    async def _settle(self, tenant_id: str, results: Mapping[Target, Settled]) -> None:
        for one in results.values():
            DELIVERIES.labels(self._channel.value, one.outcome).inc()
        async with self._database.statements(tenant_id) as connection:
            await outbox.settle(connection, self._channel, self._sender.provider, results)


def _postponed(how_many: str, results: Mapping[Target, Settled]) -> ApplicationError:
    """The error of an activity that is attempted again."""
    postponed = [one for one in results.values() if one.outcome == POSTPONED]
    reason = postponed[-1].reason if postponed else "another worker has claimed them"
    pause = max((one.pause for one in postponed), default=0.0)
    return ApplicationError(
        f"{how_many} are pending: {reason}",
        type=ProviderUnavailable.__name__,
        next_retry_delay=timedelta(seconds=pause) + _MARGIN if pause else None,
    )
