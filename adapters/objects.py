"""S3: object storage for images and other files."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from adapters.settings import Settings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
"""Of a download: each chunk is read in a thread, which costs some 0.1 ms."""
_PAGE = 1000
"""Keys of one listing: the most that S3 returns."""


class ObjectsUnavailable(Exception):
    """The object storage did not answer, or not as it should; the same call may succeed later."""


@dataclass(frozen=True)
class Content:
    """The content of an object."""

    size: int
    """Bytes."""
    chunks: AsyncIterator[bytes]


class Objects:
    """The objects of one bucket. Each method raises ObjectsUnavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket

    @cached_property
    def _client(self) -> "S3Client":
        # On first use: a client takes 0.2 s to create, and most processes need none.
        return connect(self._settings)

    async def put(self, key: str, content: IO[bytes], media_type: str) -> None:
        """Write an object, or replace it; `content` is read from its beginning, and is at most 5 GB."""

        def put() -> None:
            content.seek(0)
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType=media_type)

        await self._call(put)

    async def get(self, key: str) -> Content | None:
        """The content of an object; None if there is none."""

        def get() -> "GetObjectOutputTypeDef | None":
            try:
                return self._client.get_object(Bucket=self._bucket, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None

        found = await self._call(get)
        return Content(found["ContentLength"], _chunks(found["Body"])) if found else None

    async def delete(self, key: str) -> None:
        """Delete an object; nothing happens if there is none."""
        await self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    async def keys(self, prefix: str, *, older_than: datetime | None = None) -> AsyncIterator[str]:
        """The keys that begin with `prefix`, in pages; with `older_than`, of objects that were written before it.

        Objects may be deleted meanwhile.
        """
        after = ""
        while True:
            # Bound as defaults: the call is made in a thread.
            def page(after: str = after) -> "ListObjectsV2OutputTypeDef":
                return self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=_PAGE)

            found = await self._call(page)
            for one in found.get("Contents", ()):
                after = one["Key"]
                if older_than is None or one["LastModified"] < older_than:
                    yield after
            if not found["IsTruncated"]:
                return

    async def _call(self, call: Callable[[], T]) -> T:
        with _translate_errors():
            return await asyncio.to_thread(call)


async def _chunks(body: "StreamingBody") -> AsyncIterator[bytes]:
    with _translate_errors():
        try:
            while chunk := await asyncio.to_thread(body.read, _CHUNK_BYTES):
                yield chunk
        finally:
            body.close()


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        raise ObjectsUnavailable(f"{type(error).__name__}: {error}") from error


def connect(settings: Settings) -> "S3Client":
    """A client for the endpoint of the settings."""
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3}),
    )


async def ensure_bucket(settings: Settings) -> None:
    """Create the bucket unless it exists."""

    def create() -> None:
        try:
            connect(settings).create_bucket(Bucket=settings.s3_bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    await asyncio.to_thread(create)
