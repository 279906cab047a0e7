"""What has to be in the emulator before the first service starts: the template's stack, users, clients' buckets.

Every function may be repeated; what is there stays.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local.aws import AccessKey, Aws
from local.process import PartError
from local.template import lifecycle_rules

TEMPLATE = Path(__file__).parent.parent / "infra" / "template.yaml"
STACK_NAME = "event-pipeline"
PARAMETERS = {
    "RawBucketName": "events-raw",
    "ProcessedBucketName": "events-processed",
    "SyncQueueName": "event-pipeline-sync",
    "HourlySchedule": "rate(1 minute)",
    "DailySchedule": "rate(1 minute)",
    "WeeklySchedule": "rate(1 minute)",
    "RequireTls": "false",
}
_BUCKETS = ("RawBucket", "ProcessedBucket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The template's outputs by name, and its parameters' values."""

    outputs: dict[str, str]
    parameters: dict[str, str]


async def deploy(aws: Aws) -> Deployed:
    """Create or update the template's stack, as CloudFormation would. Raises PartError when a resource fails."""
    async with aws.client("cloudformation") as cloudformation:
        arguments = {
            "StackName": STACK_NAME,
            "TemplateBody": await asyncio.to_thread(TEMPLATE.read_text),
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in PARAMETERS.items()],
            "Capabilities": ["CAPABILITY_IAM"],
        }
        try:
            await cloudformation.create_stack(**arguments)
        except ClientError as error:
            if _code(error) != "AlreadyExistsException":
                raise
            await _update(cloudformation, arguments)
        stack = await _settled(cloudformation)
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}
    async with aws.client("sqs") as sqs:  # a queue's URL holds the port, which may be another one today
        for name in ("SyncQueueUrl", "SyncDeadLettersUrl"):
            queue = await sqs.get_queue_url(QueueName=outputs[name].rsplit("/", 1)[1])
            outputs[name] = queue["QueueUrl"]
    deployed = Deployed(outputs=outputs, parameters=parameters)
    await _complete_buckets(aws, deployed)
    return deployed


async def _update(cloudformation: Any, arguments: dict[str, Any]) -> None:
    try:
        await cloudformation.update_stack(**arguments)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise


async def _settled(cloudformation: Any) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            answer = await cloudformation.describe_stacks(StackName=STACK_NAME)
            stack: dict[str, Any] = answer["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
            await asyncio.sleep(0.05)
    if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = (await cloudformation.describe_stack_events(StackName=STACK_NAME))["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
        ]
        raise PartError(f"the stack of {TEMPLATE.name} is {stack['StackStatus']}: {'; '.join(reasons)}")
    return stack


async def _complete_buckets(aws: Aws, deployed: Deployed) -> None:
    """Encryption and lifecycle, which the emulator's CloudFormation reads over (ministack 1.5)."""
    async with aws.client("s3") as s3:
        for resource in _BUCKETS:
            bucket = deployed.outputs[resource]
            await s3.put_bucket_encryption(
                Bucket=bucket,
                ServerSideEncryptionConfiguration={
                    "Rules": [
                        {
                            "ApplyServerSideEncryptionByDefault": {
                                "SSEAlgorithm": "aws:kms",
                                "KMSMasterKeyID": deployed.outputs["KeyArn"],
                            },
                            "BucketKeyEnabled": True,
                        }
                    ]
                },
            )
            rules = await asyncio.to_thread(lifecycle_rules, TEMPLATE, resource, deployed.parameters)
            await s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


async def ensure_user(
    aws: Aws,
    name: str,
    known: AccessKey | None,
    *,
    policy_arns: Sequence[str] = (),
    policy: dict[str, Any] | None = None,
) -> AccessKey:
    """The key of an IAM user with these managed policies and this inline one: `known` while that is valid."""
    async with aws.client("iam") as iam:
        try:
            await iam.create_user(UserName=name)
        except ClientError as error:
            if _code(error) != "EntityAlreadyExists":
                raise
        for arn in policy_arns:
            await iam.attach_user_policy(UserName=name, PolicyArn=arn)
        if policy is not None:
            await iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        there = [item["AccessKeyId"] for item in (await iam.list_access_keys(UserName=name))["AccessKeyMetadata"]]
        if known is not None and known.key_id in there:
            return known
        for key_id in there:  # its secret can't be asked for again
            await iam.delete_access_key(UserName=name, AccessKeyId=key_id)
        key = (await iam.create_access_key(UserName=name))["AccessKey"]
        return AccessKey(key["AccessKeyId"], key["SecretAccessKey"])


async def ensure_bucket(aws: Aws, name: str) -> None:
    """A client's bucket: private, with nothing else set."""
    async with aws.client("s3") as s3:
        try:
            await s3.create_bucket(Bucket=name)
        except ClientError as error:
            if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


async def ensure_key(aws: Aws, alias: str) -> str:
    """The ARN of a KMS key under this alias, made when there is none."""
    async with aws.client("kms") as kms:
        try:
            found = await kms.describe_key(KeyId=f"alias/{alias}")
        except ClientError as error:
            if _code(error) != "NotFoundException":
                raise
            found = await kms.create_key(Description=alias)
            await kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=found["KeyMetadata"]["KeyId"])
        return str(found["KeyMetadata"]["Arn"])


def bucket_policy(bucket: str, kms_key: str = "") -> dict[str, Any]:
    """What the user of one bucket may do: write, read and list it, under its key if it has one; nothing else."""
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
        {"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": f"arn:aws:s3:::{bucket}/*"},
    ]
    return policy_document(statements + ([kms_statement([kms_key])] if kms_key else []))


def kms_statement(keys: Sequence[str]) -> dict[str, Any]:
    """The right to encrypt and decrypt objects under these keys."""
    return {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": list(keys)}


def policy_document(statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An IAM policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
