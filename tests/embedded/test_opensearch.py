"""The embedded OpenSearch: where its data is."""

from pathlib import Path

import pytest

from embedded.engines import OPEN_FOLDER
from embedded.opensearch import _home


@pytest.mark.parametrize("user", [0, 1000])
def test_data_is_outside_a_folder_that_its_user_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    """As root it runs as another user; as itself it can enter whatever holds the data."""
    monkeypatch.setattr("os.geteuid", lambda: user)
    (tmp_path / "closed").mkdir(mode=0o700)
    data = tmp_path / "closed" / "data"
    data.mkdir()

    assert _home(data).is_relative_to(OPEN_FOLDER if user == 0 else data)
    assert _home(data) == _home(data)
    assert _home(data) != _home(tmp_path / "closed")
