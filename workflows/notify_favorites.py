"""Notify favourites: a notice for everyone who has a listing as favourite, a page of users at a time."""

from temporalio import workflow

from activities.notices import FavoritesOf, Notices
from workflows import options
from workflows.delivering import deliver, start_digests

_PAGES = 20
"""Pages of one run: at night, when each recipient gets a digest, its history has some five thousand events."""


@workflow.defn(name="notify-favorites")
class NotifyFavoritesWorkflow:
    """One event. Its pages follow each other, so that others' notices get their turn on the queues between them."""

    @workflow.run
    async def run(self, of: FavoritesOf) -> str:
        for _ in range(_PAGES):
            expanded = await workflow.execute_activity_method(Notices.expand_favorites, of, **options.EXPAND)
            await start_digests(expanded.digests)
            await deliver(of.tenant_id, expanded, options.SEND_TO_FAVORITES)
            of = of.model_copy(update={"after": expanded.next_user, "notified": of.notified + expanded.users})
            done = f"{of.notified} users notified"
            workflow.set_current_details(done)
            if expanded.next_user is None:
                return done
        workflow.continue_as_new(of)
