"""The composition root of the API: clients, routers and middleware."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from adapters import redis, temporal
from adapters.live import FanOut, LiveStreams
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.rebuild_control import RebuildControl
from adapters.sealing import Keyring
from adapters.search.choice import index_of, search_engine
from adapters.settings import Settings
from api import (
    admin_users,
    auth,
    command_states,
    errors,
    files,
    history,
    images,
    imports,
    notifications,
    openapi,
    operations,
    parked_events,
    passkeys,
    preferences,
    projections,
    properties,
    push,
    query_names,
    recommendations,
    saved_searches,
    search,
    search_clusters,
    search_history,
    second_factor,
    streams,
    suggestions,
    unsubscribe,
    users,
    views,
    webhooks,
)
from api.ceremonies import Challenges
from api.commands import Commands
from api.deps import Parts
from api.limits import Limits
from api.live import BLOCK_SECONDS, Live
from api.middleware import RequestChecks
from api.observations import Observations
from api.opaque import Signer
from api.origins import Origins
from api.passwords import Passwords
from api.polygon_searches import PolygonSearches
from api.revocations import Revocations
from api.search_observations import SearchObservations
from api.sessions import Sessions
from api.shown_images import FileUrls
from api.sign_in_limits import SignInLimits
from api.suggestion_indexes import Suggestions
from api.tickets import Tickets
from api.tokens import Tokens
from projections.history_pages import HistoryPages
from projections.history_summary import HistorySummaries
from projections.inbox import Inbox
from projections.operations import Operations
from projections.past_searches import PastSearches
from projections.registry import Clients
from workflows import options

# The busiest first, because Starlette tries routes in order.
ROUTERS = {
    "history": history.router,
    "views": views.router,
    "search": search.router,
    "search-clusters": search_clusters.router,
    "recommendations": recommendations.router,
    "suggestions": suggestions.router,
    "properties": properties.router,
    "imports": imports.router,
    "images": images.router,
    # Before the accounts, whose ids match every path.
    "passkeys": passkeys.router,
    "second-factor": second_factor.router,
    "users": users.router,
    # After it, because `/{user_id}` would match `profile` as an invalid id.
    "admin-users": admin_users.router,
    "auth": auth.router,
    "commands": command_states.router,
    "notifications": notifications.router,
    "preferences": preferences.router,
    "push": push.router,
    "projections": projections.router,
    "parked-events": parked_events.router,
    "search-history": search_history.router,
    "files": files.router,
    "stream": streams.router,
    "saved-searches": saved_searches.router,
    "unsubscribe": unsubscribe.router,
    "webhooks": webhooks.router,
}


def create_app(settings: Settings) -> FastAPI:
    """The API with the routers of `settings.api_services`. Raises ValueError for an unknown service."""
    unknown = set(settings.api_services) - ROUTERS.keys()
    if unknown:
        raise ValueError(f"API_SERVICES: unknown {', '.join(sorted(unknown))}; choose from {', '.join(ROUTERS)}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts = await _parts(settings)
        app.state.parts = parts
        parts.revocations.start()
        if not settings.api_services or "stream" in settings.api_services:
            parts.live.start()
        yield
        await parts.live.close()
        await parts.revocations.close()
        await asyncio.gather(parts.observations.close(), parts.searches.close(), parts.suggestions.close())
        parts.passwords.close()
        await parts.redis.aclose()
        await parts.search.close()
        await parts.search_database.close()
        await parts.operations.close()
        await parts.database.close()

    app = FastAPI(
        title="Hyderabad Infra",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # OpenTelemetry is not used, and FastAPI's lookup of it took 6 % of the time of a history page.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(RequestChecks, max_body_bytes=settings.max_body_bytes, origins=Origins(settings.cors_origins))
    errors.install(app)
    for name, router in ROUTERS.items():
        if not settings.api_services or name in settings.api_services:
            # Not `include_router`, with which FastAPI matches each path twice.
            app.router.routes.extend(query_names.checked(router.routes))
    app.router.routes.extend(operations.router.routes)
    operations.install_docs(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


async def _parts(settings: Settings) -> Parts:
    database, client = Database.for_tenants(settings), redis.connect(settings)
    search_database = Database.for_searching(settings)
    keyring, signer, passwords = Keyring(settings.secret_bytes), Signer(settings.secret_bytes), Passwords()
    sign_ins = SignInLimits(client, database, keyring, settings)
    workflows = await temporal.connect(settings)
    # One connection of its own, so that it waits for no request.
    revocations = Revocations(Database.for_all_tenants(settings.model_copy(update={"database_pool_size": 1})))
    live = Live(
        LiveStreams(client),
        FanOut(redis.connect_blocking(settings, BLOCK_SECONDS)),
        revocations,
        settings.streams_per_user,
        settings.streams_per_address,
        partial(FileUrls.of, settings),
    )
    return Parts(
        settings=settings,
        database=database,
        keyring=keyring,
        redis=client,
        temporal=workflows,
        commands=Commands(workflows, database, keyring, signer, settings),
        signer=signer,
        tokens=Tokens(settings.jwt_private_pem),
        passwords=passwords,
        sessions=Sessions(database, passwords, keyring, sign_ins, settings.admin_second_factor),
        limits=Limits(client),
        sign_ins=sign_ins,
        challenges=Challenges(client),
        histories=HistoryPages(database, client, settings.consistency_wait_seconds),
        summaries=HistorySummaries(database),
        past_searches=PastSearches(database, keyring),
        suggestions=Suggestions(search_database),
        polygon_searches=PolygonSearches(),
        inbox=Inbox(database, settings.consistency_wait_seconds),
        objects=Objects(settings),
        search_database=search_database,
        search=search_engine(settings, search_database),
        observations=Observations(workflows, database, client, settings),
        searches=SearchObservations(workflows, database, keyring, settings.command_wait_seconds),
        # Few connections: operators do little at once.
        operations=Operations(
            Database.for_all_tenants(settings.model_copy(update={"database_pool_size": 2})),
            Clients(client, index_of(settings)),
            RebuildControl(workflows, options.MAINTENANCE),
        ),
        revocations=revocations,
        origins=Origins(settings.cors_origins),
        tickets=Tickets(client),
        live=live,
    )
