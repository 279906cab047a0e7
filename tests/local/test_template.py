"""infra/template.yaml by itself: who may do what, who may send, what expires. That it works is shown by the stack."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.provision import TEMPLATE
from local.template import lifecycle_rules, read_template
from pipeline.keys import processed_key

RESOURCES = read_template(TEMPLATE)["Resources"]
SERVICES = ("StreamerPolicy", "CleanerPolicy", "ProcessorPolicy", "SyncerPolicy", "AdminPolicy", "RebuildPolicy")


def grants(policy: str) -> Iterator[tuple[str, str]]:
    """(action, resource) of each permission; resources as the template writes them."""
    for statement in RESOURCES[policy]["Properties"]["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (v if isinstance(v, list) else [v] for v in (statement["Action"], statement["Resource"]))
        for action in actions:
            for resource in resources:
                yield action, resource if isinstance(resource, str) else next(iter(resource.values()))


def test_no_service_may_delete_or_do_everything() -> None:
    policies = {name for name, item in RESOURCES.items() if item["Type"] == "AWS::IAM::ManagedPolicy"}
    assert policies == {*SERVICES, "RetentionPolicy"}
    for policy in SERVICES:
        for action, resource in grants(policy):
            assert "*" not in action, (policy, action)
            assert not action.startswith("s3:Delete"), (policy, action)
            assert resource != "*", (policy, action)


def test_the_retention_job_deletes_objects_of_both_buckets_and_reads_none() -> None:
    """That it suffices is shown by tests/integration/test_retention.py, which deletes under this policy."""
    granted = set(grants("RetentionPolicy"))
    actions = {action for action, _ in granted}
    assert actions == {"s3:ListBucket", "s3:DeleteObject", "s3:PutObject", "kms:GenerateDataKey"}
    written = {resource for action, resource in granted if action == "s3:PutObject"}
    assert written == {"${ProcessedBucket.Arn}/ledger/revisions/*"}
    deleted = [str(resource) for action, resource in granted if action == "s3:DeleteObject"]
    assert not any(resource.split("}/")[1] in ("*", "ledger/*", "raw-events/*") for resource in deleted)


def test_readers_of_processed_files_see_nothing_unfiltered() -> None:
    readable = {resource for action, resource in grants("SyncerPolicy") if action == "s3:GetObject"}
    assert readable == {"${ProcessedBucket.Arn}/processed-events/*", "${ProcessedBucket.Arn}/manifests/*"}
    assert not any(
        "RawBucket" in str(resource) for policy in ("SyncerPolicy", "AdminPolicy") for _, resource in grants(policy)
    )


def test_on_a_broker_with_iam_streamers_write_idempotently_and_processors_only_read() -> None:
    roles = read_template(TEMPLATE.with_name("roles.yaml"))["Resources"]

    def kafka_actions(role: str) -> set[str]:
        _, policies, _ = roles[role]["Properties"]["Policies"]["If"]
        statements = policies[0]["PolicyDocument"]["Statement"]
        return {
            action.removeprefix("kafka-cluster:")
            for statement in statements
            for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        }

    reading = {"Connect", "DescribeTopic", "DescribeTopicDynamicConfiguration", "ReadData"}
    assert kafka_actions("StreamerRole") == reading | {"WriteData", "WriteDataIdempotently"}
    assert kafka_actions("ProcessorRole") == reading | {"AlterGroup", "DescribeGroup"}
    assert {name for name, role in roles.items() if "Policies" in role["Properties"]} == {
        "StreamerRole",
        "ProcessorRole",
    }


def test_only_the_three_rules_may_send_ticks() -> None:
    allowed, tls = RESOURCES["SyncQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    rules = [item["GetAtt"].removesuffix(".Arn") for item in allowed["Condition"]["ArnEquals"]["aws:SourceArn"]]
    assert sorted(rules) == sorted(name for name, item in RESOURCES.items() if item["Type"] == "AWS::Events::Rule")
    assert tls["If"][1]["Effect"] == "Deny"


@pytest.mark.parametrize("bucket", ["RawBucket", "ProcessedBucket"])
def test_whatever_holds_events_expires_and_so_do_old_versions(bucket: str) -> None:
    parameters = {
        "RawRetentionDays": "30",
        "ProcessedRetentionDays": "30",
        "LedgerRetentionDays": "400",
        "NoncurrentDays": "7",
    }
    rules = lifecycle_rules(TEMPLATE, bucket, parameters)
    expiring = {
        rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Days" in rule.get("Expiration", {})
    }
    hour = datetime(2026, 11, 23, 5, tzinfo=UTC)
    keys = ["raw-events/2026/11/23/05/01/a"]
    if bucket == "ProcessedBucket":
        keys = [
            processed_key(kind, "c", hour, "t", 0, 0, "i") for kind in ("client", "held", "quarantine", "dead_letter")
        ]
    for key in keys:
        assert [days for prefix, days in expiring.items() if key.startswith(prefix)] == [30], key
    (versions,) = (rule for rule in rules if "NoncurrentVersionExpiration" in rule)
    assert versions["Filter"]["Prefix"] == ""
    assert versions["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert any("ExpiredObjectDeleteMarker" in rule.get("Expiration", {}) for rule in rules)


def test_buckets_are_private_encrypted_and_versioned() -> None:
    for bucket in ("RawBucket", "ProcessedBucket"):
        properties: dict[str, Any] = RESOURCES[bucket]["Properties"]
        assert all(properties["PublicAccessBlockConfiguration"].values())
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        assert RESOURCES[bucket]["DeletionPolicy"] == "Retain"


def test_alarms_watch_dead_letters_the_queue_and_the_schedule() -> None:
    alarms = [item["Properties"] for item in RESOURCES.values() if item["Type"] == "AWS::CloudWatch::Alarm"]
    assert {alarm["MetricName"] for alarm in alarms} == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "FailedInvocations",
    }
    assert all(alarm["AlarmActions"]["If"][0] == "SendsAlarms" for alarm in alarms)
