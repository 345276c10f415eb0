"""The bodies of requests to import a file, and of the answer to a dry run."""

from uuid import UUID

from pydantic import Field, JsonValue

from domain.import_reading import FileFormat
from domain.model import Model


class ImportRequest(Model):
    """An import of a completed upload."""

    upload_id: UUID
    mapping: dict[str, str] | None = None
    """The field of each column that is read, such as `{"Rate": "price"}`; null guesses them from the headers."""
    defaults: dict[str, JsonValue] = Field(default_factory=dict)
    """The values of fields for rows that state none, such as `{"listingType": "SALE"}`."""
    dry_run: bool = False
    """Whether to answer what would happen, without saving anything."""


class FormFields(Model):
    """What a form has besides the file."""

    mapping: dict[str, str] | None = None
    defaults: dict[str, JsonValue] = Field(default_factory=dict)
    dry_run: bool = False


class RefusedField(Model):
    """A field of a row that cannot be listed."""

    line: int
    """Of the file."""
    field: str
    value: str
    reason: str


class PreviewedRows(Model):
    """Rows by what would become of them."""

    read: int
    saved: int
    updated: int
    unchanged: int
    refused: int


class ImportPreview(Model):
    """What an import would do."""

    upload_id: UUID
    """The file is kept for a day: import it by this id, without sending it again."""
    format: FileFormat
    mapping: dict[str, str]
    """The field of each column that is read."""
    ignored_columns: tuple[str, ...]
    """Columns that no field is known for."""
    rows: PreviewedRows
    complete: bool
    """Whether these are all rows of the file; otherwise its first 1,000."""
    refusals: tuple[RefusedField, ...]
    """The first 50."""
