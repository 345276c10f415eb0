"""A person whose values occur nowhere else, and who does all that a user can."""

from collections.abc import Mapping
from datetime import date, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, text

from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import users
from tests.api.test_accounts import ask, change_password, change_profile, link, reset, verify
from tests.api.test_push import PATH as PUSH
from tests.api.test_push import subscription
from tests.authenticator import Authenticator
from tests.platform import Person, Platform, registration, until
from tests.samples import listing
from tests.second_factors import App, begin, confirm


class Canary:
    """A person with values that occur nowhere else, who does all that a user can."""

    def __init__(self, platform: Platform, database: Database, keyring: Keyring) -> None:
        self._platform, self._http = platform, platform.http
        self._database, self._keyring = database, keyring
        mark, digits = f"canary{uuid4().hex[:10]}", f"{Random().randrange(10**8):08}"
        born = date(1921, 1, 1) + timedelta(days=Random().randrange(3650))
        self.account = {
            "username": f"{mark}-user",
            "email": f"{mark}-mail@example.com",
            "firstName": f"{mark}-first",
            "lastName": f"{mark}-last",
            "phoneNumber": f"+9170{digits}",
        }
        self.profile = {"address": f"{mark}-street 12", "dateOfBirth": born.isoformat()}
        self.contact = {
            "contactName": f"{mark}-contact",
            "contactEmail": f"{mark}-contact@example.com",
            "contactPhone": f"+9171{digits}",
        }
        self.searched = f"{mark}-gardens"
        self.endpoint = f"https://updates.push.services.mozilla.com/wpush/v2/{mark}"
        self.passwords = [f"{mark} battery one", f"{mark} battery two", f"{mark} battery three"]
        self.tokens: list[str] = []
        """Of sessions and links, and those of the second factor."""
        self.code = ""
        """A recovery code that is not used."""
        self.person: Person

    @property
    def personal(self) -> list[str]:
        """What names or reaches the person."""
        # A date of birth is of others too.
        values = [*self.account.values(), self.profile["address"], *self.contact.values(), self.endpoint, self.searched]
        return [str(value) for value in values]

    @property
    def secrets(self) -> list[str]:
        return [*self.passwords, *self.tokens]

    async def password_hash(self) -> str:
        async with self._database.statements("hyderabad") as connection:
            query = select(users.c.password_hash).where(users.c.user_id == UUID(self.person.id))
            return str((await connection.execute(query)).scalar_one())

    async def live(self) -> None:
        """Register, sign in and fail to, use every link, change the account, list, favour, view and search."""
        await self._register()
        await self._use_links()
        await self._change_account()
        await self._list()
        others = await self._platform.register()
        home = (await self._platform.create(others)).headers["location"]
        for answer in (
            await self._http.put(f"{home}/favorite", headers=self.person.headers),
            await self._http.post(f"{home}/views", headers=self.person.headers),
        ):
            assert answer.is_success, answer.text
        await self._search()
        await self._everything_is_done()

    async def _register(self) -> None:
        body = registration(**self.account, password=self.passwords[0])
        answer = await self._http.post("/api/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        self._enter(answer.json())
        # Refused by a unique index of Postgres, which would log the address.
        assert (await self._http.post("/api/auth/register", json=body)).status_code == 409
        await self._sign_in(self.passwords[0])
        wrong = {"emailOrUsername": self.account["email"], "password": self.passwords[2]}
        assert (await self._http.post("/api/auth/login", json=wrong)).status_code == 401
        broken = b'{"email": "' + self.account["email"].encode() + b'", "password": "' + self.passwords[0].encode()
        await self._http.post("/api/auth/login", content=broken, headers={"Content-Type": "application/json"})
        renewed = await self._http.post("/api/auth/refresh", json={"refreshToken": self.person.refresh_token})
        self._enter(renewed.json())

    async def _use_links(self) -> None:
        of_person = UUID(self.person.id)
        verifying = await link(self._database, self._keyring, str(of_person), "USER_REGISTERED")
        self.tokens.append(verifying)
        assert (await verify(self._platform, verifying)).status_code == 204
        for what in ("forgot-password", "resend-verification"):
            assert (await ask(self._platform, what, self.account["email"])).status_code == 202
        resetting = await link(self._database, self._keyring, str(of_person), "USER_PASSWORD_RESET_REQUESTED")
        self.tokens.append(resetting)
        assert (await reset(self._platform, resetting, self.passwords[1])).status_code == 204
        assert (await reset(self._platform, resetting, self.passwords[1])).status_code == 400
        await self._sign_in(self.passwords[1])

    async def _change_account(self) -> None:
        changed = await change_profile(self._platform, self.person, self.profile)
        assert changed.status_code == 200, changed.text
        changed = await change_password(self._platform, self.person, self.passwords[1], self.passwords[2])
        assert changed.status_code == 204, changed.text
        setup = (await begin(self._http, self.person.headers, self.passwords[2])).json()
        app = App(setup["secret"])
        confirmed = await confirm(self._http, self.person.headers, setup["setupToken"], app.code())
        recovery, self.code, *_ = codes = confirmed.json()["recoveryCodes"]
        self.tokens += [setup["setupToken"], app.secret, *codes]
        proof = {"password": self.passwords[2], "code": app.code(1)}
        path = "/api/users/passkeys"
        options = await self._http.post(f"{path}/options", json=proof, headers=self.person.headers)
        credential = Authenticator(origin=self._platform.url).make(options.json())
        body = {"credential": credential, "name": "Phone"}
        added = await self._http.post(path, json=body, headers=self.person.headers)
        assert added.status_code == 201, added.text
        # Options that are not answered, so that their challenge stays.
        proof = {"password": self.passwords[2], "code": recovery}
        unanswered = await self._http.post(f"{path}/options", json=proof, headers=self.person.headers)
        assert unanswered.status_code == 200, unanswered.text
        # Last, because a second factor removes the browsers with the other sessions.
        subscribed = await self._http.put(PUSH, json=subscription(self.endpoint), headers=self.person.headers)
        assert subscribed.status_code == 201, subscribed.text

    async def _list(self) -> None:
        created = await self._http.post("/api/properties", json=listing(**self.contact), headers=self.person.headers)
        assert created.status_code == 201, created.text
        for body in ({"price": 8_000_000}, {"contactName": self.contact["contactName"].upper()}):
            answer = await self._platform.change(self.person, "PATCH", created.headers["location"], body)
            assert answer.status_code == 200, answer.text

    async def _search(self) -> None:
        found = await self._http.get("/api/search/properties", params={"q": self.searched}, headers=self.person.headers)
        assert found.status_code == 200, found.text

        async def is_remembered() -> bool:
            answer = await self._http.get("/api/search/history", headers=self.person.headers)
            return bool(answer.json()["items"])

        await until(is_remembered)

    async def _sign_in(self, password: str) -> None:
        body = {"emailOrUsername": self.account["email"], "password": password}
        answer = await self._http.post("/api/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        self._enter(answer.json())

    def _enter(self, body: Mapping[str, Any]) -> None:
        self.tokens += [body["accessToken"], body["refreshToken"]]
        user = body["user"]
        self.person = Person(user["id"], user["email"], user["username"], body["accessToken"], body["refreshToken"])

    async def _everything_is_done(self) -> None:
        """Every event is published, and every mail sent; the push service cannot be reached from here."""

        async def settled() -> bool:
            async with self._database.statements("hyderabad") as connection:
                query = (
                    "SELECT (SELECT count(*) FROM user_history.event_store"
                    " WHERE user_id = :user AND published_at IS NULL)"
                    " + (SELECT count(*) FROM notification.deliveries"
                    " WHERE recipient_id = CAST(:user AS uuid) AND channel = 'email'"
                    " AND sent_at IS NULL AND given_up IS NULL)"
                )
                left = (await connection.execute(text(query), {"user": self.person.id})).scalar_one()
            return bool(left == 0)

        await until(settled)
