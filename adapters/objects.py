"""S3: object storage for images and other files."""

import asyncio
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from adapters.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
