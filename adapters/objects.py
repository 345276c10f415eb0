"""S3: object storage for images and other files."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from adapters.settings import Settings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
"""Of a download: each chunk is read in a thread, which costs some 0.1 ms."""
_PAGE = 1000
"""Keys of one listing or deletion: the most that S3 takes."""
_CALLS = 16
"""Calls of one process at once, each with a thread and a connection. They have threads of their own, so that a storage
that does not answer holds up nothing else."""
_NOT_FOUND = {"404", "NoSuchKey"}


@dataclass(frozen=True)
class Found:
    """What is known of an object without its content."""

    size: int
    """Bytes."""
    etag: str
    """Of the bytes, with its double quotes."""


@dataclass(frozen=True)
class Content:
    """The content of an object, or a range of it. Close it, or read it to its end."""

    size: int
    """Bytes of `chunks`."""
    etag: str
    """Of the bytes of the whole object, with its double quotes."""
    chunks: AsyncIterator[bytes]
    close: Callable[[], None]
    """Closes the connection, also while a chunk is being read."""


class Objects:
    """The objects of one bucket. Each method raises ObjectsUnavailable."""

    def __init__(self, settings: Settings, *, locks_rows: bool = False) -> None:
        """With `locks_rows` a call is tried once and for seconds only, because others wait for rows meanwhile."""
        self._settings = settings
        self._limits = (3, 1) if locks_rows else (10, 3)
        self._bucket = settings.s3_bucket

    @cached_property
    def _client(self) -> "S3Client":
        # On first use: a client takes 0.2 s to create, and most processes need none.
        return connect(self._settings, None, *self._limits)

    @cached_property
    def _public_client(self) -> "S3Client":
        return connect(self._settings, self._settings.s3_public_url)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_CALLS, "s3")

    async def put(self, key: str, content: IO[bytes], media_type: str) -> None:
        """Write an object, or replace it; `content` is read from its beginning, and is at most 5 GB."""

        def put() -> None:
            content.seek(0)
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType=media_type)

        await self._call(put)

    async def get(self, key: str, first: int = 0, last: int | None = None) -> Content | None:
        """The bytes `first` to `last`, both included, of an object that has them; None if there is no object."""

        def get() -> "GetObjectOutputTypeDef | None":
            try:
                if not first and last is None:  # a range of an empty object cannot be satisfied
                    return self._client.get_object(Bucket=self._bucket, Key=key)
                ranged = f"bytes={first}-{'' if last is None else last}"
                return self._client.get_object(Bucket=self._bucket, Key=key, Range=ranged)
            except self._client.exceptions.NoSuchKey:
                return None

        found = await self._call(get)
        if found is None:
            return None
        body = found["Body"]
        return Content(found["ContentLength"], found["ETag"], self._chunks(body), partial(self._close, body))

    async def download(self, key: str, path: Path, progress: Callable[[], None] = lambda: None) -> bool:
        """Write the content of an object to a file; False if there is none. `progress` is called at each chunk."""
        content = await self.get(key)
        if content is None:
            return False
        try:
            with path.open("wb") as file:
                async for chunk in content.chunks:
                    await asyncio.to_thread(file.write, chunk)
                    progress()
        finally:
            content.close()
        return True

    async def find(self, key: str) -> Found | None:
        """The size of an object; None if there is none."""

        def find() -> Found | None:
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _NOT_FOUND:
                    return None
                raise
            return Found(found["ContentLength"], found["ETag"])

        return await self._call(find)

    async def copy(self, source: str, target: str) -> bool:
        """Copy an object inside the storage, at most 5 GB; False if there is none."""

        def copy() -> bool:
            try:
                of = {"Bucket": self._bucket, "Key": source}
                self._client.copy_object(Bucket=self._bucket, Key=target, CopySource=of)  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"]["Code"] in _NOT_FOUND:
                    return False
                raise
            return True

        return await self._call(copy)

    async def delete(self, key: str) -> None:
        """Delete an object; nothing happens if there is none."""
        await self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the objects whose keys begin with `prefix`; returns how many."""
        deleted = 0
        async for page in self.pages(prefix):
            await self.delete_keys(page)
            deleted += len(page)
        return deleted

    async def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete objects, of which some may not exist."""

        def delete(some: Sequence[str]) -> None:
            named = [{"Key": key} for key in some]
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": named, "Quiet": True})  # type: ignore[typeddict-item]
            if errors := answer.get("Errors"):
                raise ObjectsUnavailable(f"{len(errors)} objects are not deleted: {errors[0].get('Code')}")

        for n in range(0, len(keys), _PAGE):
            await self._call(partial(delete, keys[n : n + _PAGE]))

    async def keys(self, prefix: str, *, older_than: datetime | None = None) -> AsyncIterator[str]:
        """The keys that begin with `prefix`; with `older_than`, of objects that were written before it.

        Objects may be deleted meanwhile.
        """
        async for page in self.pages(prefix, older_than=older_than):
            for key in page:
                yield key

    async def folders(self, prefix: str) -> list[str]:
        """The different continuations of the keys after `prefix` up to the next slash, each as a prefix itself."""

        def folders() -> list[str]:
            paginator = self._client.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
            return [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]

        return await self._call(folders)

    async def presigned_put(self, key: str, size: int, media_type: str, seconds: int) -> str:
        """A URL at which a client may write an object of exactly this size and type.

        Both are signed headers, so that S3 refuses any other size before it reads the body, and a chunked body.
        """
        of = {"Bucket": self._bucket, "Key": key, "ContentLength": size, "ContentType": media_type}
        # In a thread, because the first call creates a client.
        return await self._call(
            lambda: self._public_client.generate_presigned_url("put_object", Params=of, ExpiresIn=seconds)
        )

    async def pages(self, prefix: str, *, older_than: datetime | None = None) -> AsyncIterator[list[str]]:
        """The keys as `keys` has them, up to a thousand at a time."""
        after = ""
        while True:
            # Bound as defaults: the call is made in a thread.
            def page(after: str = after) -> "ListObjectsV2OutputTypeDef":
                return self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=_PAGE)

            found = await self._call(page)
            contents = found.get("Contents", [])
            if contents:
                after = contents[-1]["Key"]
                yield [one["Key"] for one in contents if older_than is None or one["LastModified"] < older_than]
            if not found["IsTruncated"]:
                return

    async def _chunks(self, body: "StreamingBody") -> AsyncIterator[bytes]:
        try:
            while chunk := await self._call(lambda: body.read(_CHUNK_BYTES)):
                yield chunk
        finally:
            self._close(body)

    def _close(self, body: "StreamingBody") -> None:
        # In a thread, because it waits for one that reads, which S3 may keep waiting.
        self._threads.submit(body.close)

    async def _call(self, call: Callable[[], T]) -> T:
        with _translate_errors():
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class ObjectsUnavailable(Exception):
    """The object storage did not answer, or not as it should; the same call may succeed later."""


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, HTTPError, OSError) as error:
        raise ObjectsUnavailable(f"{type(error).__name__}: {error}") from error


def connect(
    settings: Settings, endpoint_url: str | None = None, read_timeout: float = 10, attempts: int = 3
) -> "S3Client":
    """A client for the endpoint of the settings, or for another one of the same storage; its timeout is in seconds."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url or settings.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        config=Config(
            connect_timeout=2,
            read_timeout=read_timeout,
            retries={"total_max_attempts": attempts},
            max_pool_connections=_CALLS,
            signature_version="s3v4",  # of presigned URLs: the older one does not sign the size
            s3={"addressing_style": "path"},  # a bucket needs no host name of its own
            # Checksums besides those of the protocol: presigned URLs would have that of an empty body.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
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
