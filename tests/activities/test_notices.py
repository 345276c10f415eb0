"""Notices expanded to deliveries, and sent on every channel by real servers that misbehave."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import func, insert, select, text
from temporalio.exceptions import ApplicationError

from activities.notices import PAGE
from adapters import outbox, push_subscriptions
from adapters.outbox import SENT, Settled, Target
from adapters.postgres import Database
from adapters.push import WebPush
from adapters.settings import Settings
from adapters.tables import deliveries, event_store, favorites, notices, preferences
from domain import ids
from domain.notifications import in_app_id
from domain.preferences import Channel, Channels
from domain.property import PropertyPatch
from domain.property_commands import CreateProperty, PatchProperty
from domain.user_commands import ChangePassword, RequestPasswordReset
from embedded.stack import Stack
from tests.activities.accounts import Saving, change
from tests.activities.pipeline import Pipeline, on_account
from tests.activities.test_deliveries import mails_to
from tests.adapters.provider_servers import answer, http_server
from tests.adapters.test_push import PEM, Browser
from tests.adapters.test_sms import sender as twilio
from tests.samples import create_property, new_id, new_tenant


async def prefers(database: Database, tenant: str, user_id: UUID, *, quiet: bool = False, **channels: bool) -> None:
    """Store preferences: the channels of every kind, and quiet hours around this moment."""
    now = datetime.now(UTC) + timedelta(hours=5, minutes=30)
    row = {
        "tenant_id": tenant,
        "user_id": user_id,
        "version": 1,
        "kinds": {
            kind: Channels(**channels).model_dump(mode="json", by_alias=True)
            for kind in ("LISTING_CONFIRMED", "STATUS_CHANGED", "PRICE_DROPPED")
        },
        "quiet_from": (now - timedelta(hours=1)).time().replace(second=0, microsecond=0) if quiet else None,
        "quiet_to": (now + timedelta(hours=2)).time().replace(second=0, microsecond=0) if quiet else None,
        "updated_at": datetime.now(UTC),
    }
    async with database.transaction(tenant) as tx:
        await tx.execute(insert(preferences).values(row))


async def listed(saving: Saving, tenant: str, **more: Any) -> tuple[CreateProperty, UUID]:
    """A listing of a new owner, and the id of its event."""
    command = create_property(tenant, await saving.registered(tenant, **more))
    await saving.property(command)
    return command, ids.event_id(command.command_id, 1)


async def favoured(database: Database, made: CreateProperty, user_ids: list[UUID]) -> None:
    rows = [
        {
            "tenant_id": made.tenant_id,
            "favorite_id": ids.favorite_id(made.tenant_id, user_id, made.property_id),
            "version": 1,
            "user_id": user_id,
            "property_id": made.property_id,
            "owner_id": made.user_id,
            "title": made.details.title,
            "location": made.details.location,
            "is_favorite": True,
            "changed_at": datetime.now(UTC),
        }
        for user_id in user_ids
    ]
    async with database.transaction(made.tenant_id) as tx:
        await tx.execute(insert(favorites), rows)


async def price_dropped(saving: Saving, made: CreateProperty) -> UUID:
    """Drop the price of a listing by a lakh; the id of the event."""
    patch = change(PatchProperty, made, changes=PropertyPatch.model_validate({"price": made.details.price - 100_000}))
    return (await saving.property(patch)).events[0].event_id


@pytest.fixture
def pipeline(database: Database, settings: Settings, tenant: str) -> Pipeline:
    return Pipeline(database, settings, tenant)


async def test_notice_is_one_delivery_for_each_channel_however_often_it_is_expanded(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant)

    first, again = [await pipeline.expand(event_id) for _ in range(2)]

    assert first.channels == again.channels == {"email": (Target(event_id, made.user_id),)}
    assert await pipeline.outcomes(event_id) == {"email": "pending", "in-app": "sent"}
    async with database.transaction(tenant) as tx:
        query = select(event_store).where(event_store.c.event_id == in_app_id(event_id, made.user_id))
        [notified] = await tx.execute(query)
    assert (notified.event_type, notified.command_id) == ("USER_NOTIFIED", first.recorded)
    assert notified.event_data == {
        "userId": str(made.user_id),
        "kind": "LISTING_CONFIRMED",
        "aboutEventId": str(event_id),
        "propertyId": str(made.property_id),
        "savedSearchId": None,
        "values": {"title": made.details.title, "location": made.details.location, "price": made.details.price},
    }


async def test_notices_of_another_tenant_are_not_expanded(
    database: Database, settings: Settings, saving: Saving, tenant: str
) -> None:
    _, event_id = await listed(saving, tenant)
    elsewhere = Pipeline(database, settings, new_tenant())

    assert (await elsewhere.expand(event_id)).channels == {}
    assert await elsewhere.send(Channel.EMAIL, [Target(event_id, new_id())]) == "0 sent"

    assert (await Pipeline(database, settings, tenant).expand(event_id)).channels != {}


async def test_preferences_turn_channels_off(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant)
    await prefers(database, tenant, made.user_id, email=False, push=False, in_app=True)
    reset = (await on_account(saving, tenant, made.user_id, RequestPasswordReset)).events[0].event_id

    await pipeline.expand(event_id, reset)

    assert await pipeline.outcomes(event_id) == {"in-app": "sent"}
    assert await pipeline.outcomes(reset) == {"email": "pending"}


async def test_quiet_hours_hold_mails_which_then_come_as_one(
    database: Database, pipeline: Pipeline, saving: Saving, stack: Stack, tenant: str
) -> None:
    email = f"{tenant}@example.com"
    made, first = await listed(saving, tenant, email=email)
    await prefers(database, tenant, made.user_id, quiet=True)
    other = create_property(tenant, made.user_id, title="Villa by the lake")
    await saving.property(other)
    second = ids.event_id(other.command_id, 1)

    [of] = (await pipeline.expand(first, second)).digests

    assert await pipeline.outcomes(first) == {"email": "held", "in-app": "sent"}
    assert await pipeline.send(Channel.EMAIL, await pipeline.targets(Channel.EMAIL, first)) != "1 sent"
    done = [await pipeline.digest(Channel.EMAIL, of) for _ in range(2)]
    assert done == ["2 in one digest", "0 in one digest"]
    [mail] = [mail for mail in await mails_to(stack, email) if "2 updates" in mail["subject"]]
    assert "Villa by the lake" in mail["text"]
    assert made.details.title in mail["text"]
    assert (await pipeline.outcomes(first))["email"] == (await pipeline.outcomes(second))["email"] == "sent"


async def test_digest_leaves_out_what_is_turned_off_or_gone_in_the_meantime(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant)
    gone, gone_id = await listed(saving, tenant)
    for user_id in (made.user_id, gone.user_id):
        await prefers(database, tenant, user_id, quiet=True)
    digests = {of.user_id: of for of in (await pipeline.expand(event_id, gone_id)).digests}
    async with database.transaction(tenant) as tx:
        off = {"LISTING_CONFIRMED": Channels(email=False).model_dump(by_alias=True)}
        await tx.execute(preferences.update().where(preferences.c.user_id == made.user_id).values(kinds=off))
        await tx.execute(text(f"DELETE FROM property_management.properties WHERE property_id = '{gone.property_id}'"))

    assert await pipeline.digest(Channel.EMAIL, digests[made.user_id]) == "0 in one digest, 1 given up"
    assert await pipeline.digest(Channel.EMAIL, digests[gone.user_id]) == "0 in one digest, 1 given up"

    reasons = [row.given_up for row in await pipeline.rows(event_id, gone_id) if row.channel == "email"]
    assert sorted(reasons) == ["the listing is deleted", "turned off by its recipient in the meantime"]


async def test_digest_of_another_user_or_time_sends_nothing(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant)
    await prefers(database, tenant, made.user_id, quiet=True)
    [of] = (await pipeline.expand(event_id)).digests

    for other in (of.model_copy(update={"user_id": new_id()}), of.model_copy(update={"until": datetime.now(UTC)})):
        assert await pipeline.digest(Channel.EMAIL, other) == "0 in one digest"

    assert (await pipeline.outcomes(event_id))["email"] == "held"


async def test_text_that_was_accepted_is_not_sent_again(
    database: Database, settings: Settings, saving: Saving, tenant: str
) -> None:
    """The worker died after Twilio had accepted it: the delivery is claimed, and its result is not recorded."""
    made, event_id = await listed(saving, tenant, phone_number="+919848022338")
    await prefers(database, tenant, made.user_id, sms=True, email=False, push=False)
    async with http_server(answer(201, {"sid": "SM1"})) as server:
        texts = twilio(server.url)
        pipeline = Pipeline(database, settings, tenant, sms=texts)
        targets = (await pipeline.expand(event_id)).channels["sms"]
        assert await pipeline.send(Channel.SMS, targets) == "1 sent"
        await texts.close()
    [sent] = server.received
    async with database.transaction(tenant) as tx:
        await tx.execute(deliveries.update().values(sent_at=None, outcome=None, claimed_until=text("now()")))

    message = {
        "sid": "SM1",
        "body": sent.form["Body"],
        "date_created": format_datetime(datetime.now(UTC)),
    }
    async with http_server(answer(200, {"messages": [message]})) as server:
        texts = twilio(server.url)
        pipeline = Pipeline(database, settings, tenant, sms=texts)
        assert await pipeline.send(Channel.SMS, targets) == "1 sent"
        await texts.close()

    assert [request.method for request in server.received] == ["GET"]
    [row] = [row for row in await pipeline.rows(event_id) if row.channel == "sms"]
    assert (row.provider, row.provider_id) == ("twilio", "SM1")


async def test_provider_says_when_to_try_again(
    database: Database, settings: Settings, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant, phone_number="+919848022338")
    await prefers(database, tenant, made.user_id, sms=True)
    async with http_server(answer(429, {}, retry_after="120")) as server:
        texts = twilio(server.url)
        pipeline = Pipeline(database, settings, tenant, sms=texts)
        targets = (await pipeline.expand(event_id)).channels["sms"]

        with pytest.raises(ApplicationError) as postponed:
            await pipeline.send(Channel.SMS, targets)
        with pytest.raises(ApplicationError, match="another worker has claimed them"):
            await pipeline.send(Channel.SMS, targets)

        await texts.close()
    assert postponed.value.next_retry_delay == timedelta(seconds=121)
    assert len(server.received) == 1
    assert (await pipeline.outcomes(event_id))["sms"] == "postponed"


async def subscribed(database: Database, tenant: str, user_id: UUID, endpoint: str) -> Browser:
    browser = Browser()
    async with database.transaction(tenant) as tx:
        await push_subscriptions.put(tx, tenant, user_id, browser.subscription(endpoint), datetime.now(UTC))
    return browser


async def test_message_goes_to_every_browser_of_the_user_and_ended_subscriptions_are_deleted(
    database: Database, settings: Settings, saving: Saving, tenant: str
) -> None:
    made, event_id = await listed(saving, tenant)
    pushing = WebPush(
        Settings.model_validate({"secret_key": "x" * 44, "vapid_private_key": PEM, "push_allow_private": True})
    )
    async with http_server(answer(201)) as server, http_server(answer(410)) as ended:
        browser = await subscribed(database, tenant, made.user_id, f"{server.url}/here")
        await subscribed(database, tenant, made.user_id, f"{ended.url}/gone")
        pipeline = Pipeline(database, settings, tenant, push=pushing)
        targets = (await pipeline.expand(event_id)).channels["push"]

        assert await pipeline.send(Channel.PUSH, targets) == "1 sent"

        await pushing.close()
    [request] = server.received
    shown = orjson.loads(browser.decrypted(request.body))
    assert shown["title"] == "Your listing is public"
    assert shown["url"].endswith(f"/properties/{made.property_id}")
    async with database.statements(tenant) as connection:
        left = (await push_subscriptions.of_users(connection, [made.user_id]))[made.user_id]
    assert [one.subscription.endpoint for one in left] == [f"{server.url}/here"]


async def test_security_notice_of_the_account_is_in_the_app_as_well(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    user_id = await saving.registered(tenant)
    changed = await on_account(saving, tenant, user_id, ChangePassword, password_hash="$argon2id$", session_id=new_id())

    await pipeline.expand(changed.events[0].event_id)

    assert await pipeline.outcomes(changed.events[0].event_id) == {"email": "pending", "in-app": "sent"}


async def test_everyone_who_has_the_listing_as_favourite_is_notified_once_by_pages(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    made, _ = await listed(saving, tenant)
    fans = [await saving.registered(tenant) for _ in range(3)]
    await favoured(database, made, [*fans, made.user_id, *(new_id() for _ in range(PAGE))])
    event_id = await price_dropped(saving, made)

    [of] = (await pipeline.expand(event_id)).favorites
    pages = []
    while True:
        expanded = await pipeline.expand_favorites(of)
        if expanded.next_user:
            assert await pipeline.expand_favorites(of) == expanded
        pages.append(expanded.users)
        if expanded.next_user is None:
            break
        of = of.model_copy(update={"after": expanded.next_user})

    assert pages == [PAGE, 3]  # without the owner, who has changed the price
    mailed = [row.recipient_id for row in await pipeline.rows(event_id) if row.channel == "email"]
    assert sorted(mailed) == sorted(fans)  # the others have no account any more
    async with database.statements(tenant) as connection:
        query = select(func.count()).where(notices.c.event_id == event_id, notices.c.expanded_at.is_(None))
        assert (await connection.execute(query)).scalar_one() == 0
    assert (await pipeline.expand(event_id)).favorites == ()


async def test_listing_with_ten_thousand_favourites_holds_up_nobody(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    """Each page is a few statements, and the mail of another event goes out between two pages."""
    made, _ = await listed(saving, tenant)
    fans = [new_id() for _ in range(10_000)]
    async with database.transaction(tenant) as tx:
        await tx.execute(
            text("""
                INSERT INTO user_management.users
                  (tenant_id, user_id, version, username, email, password_hash, role, status, created_at, updated_at)
                SELECT CAST(:tenant AS text), id, 1, 'fan-' || n || CAST(:tenant AS text),
                  'fan-' || n || '@' || CAST(:tenant AS text) || '.example', '', 'USER',
                  'ACTIVE', now(), now()
                FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS fan (id, n)
            """),
            {"tenant": tenant, "ids": fans},
        )
    await favoured(database, made, fans)
    event_id = await price_dropped(saving, made)
    async with database.transaction(tenant) as tx:
        # The platform's reconcile, which runs beside this test, would take the notice up after seconds.
        later = datetime.now(UTC) + timedelta(hours=1)
        await tx.execute(notices.update().where(notices.c.event_id == event_id).values(enqueued_at=later))
    [of] = (await pipeline.expand(event_id)).favorites

    notified, pages = 0, 0
    while True:
        expanded = await pipeline.expand_favorites(of)
        notified, pages = notified + expanded.users, pages + 1
        assert sum(len(targets) for targets in expanded.channels.values()) <= PAGE
        accepted = dict.fromkeys(expanded.channels["email"], Settled(SENT)) if expanded.users else {}
        async with database.statements(tenant) as connection:
            await outbox.settle(connection, Channel.EMAIL, "smtp", accepted)
        if pages == 2:
            other = (await on_account(saving, tenant, made.user_id, RequestPasswordReset)).events[0].event_id
            assert await pipeline.mail(other) == "1 sent"
            # Reconcile may start a workflow for the event as well: it leaves the favourites to the running one.
            assert (await pipeline.expand(event_id)).channels == {}
        if expanded.next_user is None:
            break
        of = of.model_copy(update={"after": expanded.next_user})

    assert (notified, pages) == (10_000, 10_000 // PAGE + 1)
    async with database.statements(tenant) as connection:
        counted = select(deliveries.c.channel, func.count()).where(deliveries.c.event_id == event_id)
        rows = await connection.execute(counted.group_by(deliveries.c.channel))
        assert dict(rows.all()) == {"email": 10_000, "in-app": 10_000}
        stored = select(func.count()).where(event_store.c.event_data["aboutEventId"].astext == str(event_id))
        assert (await connection.execute(stored)).scalar_one() == 10_000
