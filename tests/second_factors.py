"""An authenticator app, and accounts with a second factor."""

import time
from dataclasses import dataclass

import httpx
import pyotp
from sqlalchemy import text

from adapters.postgres import Database
from tests.platform import PASSWORD


@dataclass(frozen=True)
class App:
    """An authenticator app that has scanned a setup, with the recovery codes that were shown."""

    secret: str
    recovery_codes: tuple[str, ...] = ()

    def code(self, steps: int = 0) -> str:
        """The code of the present time step, or of one that is `steps` later."""
        return pyotp.TOTP(self.secret).generate_otp(int(time.time()) // 30 + steps)

    @property
    def wrong_code(self) -> str:
        """A code of none of the steps that are accepted."""
        right = {self.code(steps) for steps in range(-3, 4)}
        return next(code for code in ("000000", "111111", *map(str, range(200_000, 200_010))) if code not in right)


async def begin(http: httpx.AsyncClient, headers: dict[str, str], password: str = PASSWORD) -> httpx.Response:
    return await http.post("/api/users/second-factor", json={"password": password}, headers=headers)


async def confirm(http: httpx.AsyncClient, headers: dict[str, str], token: str, code: str) -> httpx.Response:
    body = {"setupToken": token, "code": code}
    return await http.post("/api/users/second-factor/confirm", json=body, headers=headers)


async def enable(http: httpx.AsyncClient, headers: dict[str, str]) -> App:
    """Set up an app. The code of the present time step is used up."""
    setup = await begin(http, headers)
    assert setup.status_code == 200, setup.text
    app = App(setup.json()["secret"])
    confirmed = await confirm(http, headers, setup.json()["setupToken"], app.code())
    assert confirmed.status_code == 200, confirmed.text
    return App(app.secret, tuple(confirmed.json()["recoveryCodes"]))


async def forget_steps(database: Database, tenant: str, user_id: object) -> None:
    """Have codes accepted again that were used, as time does."""
    forget = "UPDATE user_management.totp SET last_step = 0 WHERE user_id = :user"
    async with database.statements(tenant) as connection:
        await connection.execute(text(forget), {"user": user_id})
