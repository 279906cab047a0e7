"""CloudFormation stacks: created or updated, and waited for; or only asked what would change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from pipeline.errors import PermanentError

MOST_REST_SECONDS = 5.0
PATIENCE_SECONDS = 1800.0


class Stacks:
    """The stacks of one account and region, with the credentials of the environment."""

    def __init__(self, region: str, endpoint_url: str | None, *, dry_run: bool, say: Callable[[str], None]) -> None:
        session = botocore.session.get_session()
        self._client = session.create_client("cloudformation", region_name=region, endpoint_url=endpoint_url)
        self._dry_run, self._say = dry_run, say

    def deploy(self, name: str, template: Path, parameters: Mapping[str, str]) -> dict[str, str]:
        """Create or update a stack; its outputs. Parameters that aren't given keep their value.

        In a dry run: what CloudFormation would change, and the outputs as they stand, with a made-up value for each
        that is not there yet. Raises PermanentError when a resource fails.
        """
        body = template.read_text()
        before = self._describe(name)
        declared = {item["ParameterKey"] for item in self._client.validate_template(TemplateBody=body)["Parameters"]}
        kept = {item["ParameterKey"] for item in (before or {}).get("Parameters", ())} & declared - parameters.keys()
        arguments = {
            "StackName": name,
            "TemplateBody": body,
            "Parameters": [
                *({"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()),
                *({"ParameterKey": key, "UsePreviousValue": True} for key in sorted(kept)),
            ],
            "Capabilities": ["CAPABILITY_IAM"],
        }
        if self._dry_run:
            self._say_changes(name, arguments, exists=before is not None)
            return _outputs(before or {}) | _missing_outputs(body, before)
        if before is None:
            self._client.create_stack(**arguments)
        elif not self._update(arguments):
            self._say(f"stack {name}: nothing to do")
            return _outputs(before)
        stack = self._settled(name)
        self._say(f"stack {name}: {stack['StackStatus']}")
        return _outputs(stack)

    def _describe(self, name: str) -> dict[str, Any] | None:
        try:
            stack: dict[str, Any] = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else stack

    def _update(self, arguments: Mapping[str, Any]) -> bool:
        try:
            self._client.update_stack(**arguments)
        except ClientError as error:
            if "No updates are to be performed" in str(error):
                return False
            raise
        return True

    def _settled(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        for rest in _rests():
            stack: dict[str, Any] = self._client.describe_stacks(StackName=name)["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
            if time.monotonic() > deadline:
                raise PermanentError(f"stack {name} is {stack['StackStatus']} for {PATIENCE_SECONDS / 60:.0f} minutes")
            time.sleep(rest)
        if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            events = self._client.describe_stack_events(StackName=name)["StackEvents"]
            reasons = [
                f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
                for event in events
                if event["ResourceStatus"].endswith("_FAILED")
            ]
            raise PermanentError(f"stack {name} is {stack['StackStatus']}: {'; '.join(reasons)}")
        return stack

    def _say_changes(self, name: str, arguments: dict[str, Any], *, exists: bool) -> None:
        """Ask by a change set, which is thrown away."""
        kind = "UPDATE" if exists else "CREATE"
        change_set = f"dry-run-{int(time.time())}"
        self._client.create_change_set(**arguments, ChangeSetName=change_set, ChangeSetType=kind)
        try:
            for rest in _rests():
                answer = self._client.describe_change_set(StackName=name, ChangeSetName=change_set)
                if not answer["Status"].endswith(("_IN_PROGRESS", "_PENDING")):
                    break
                time.sleep(rest)
            changes = [change["ResourceChange"] for change in answer.get("Changes", ())]
            self._say(f"stack {name}: would {kind.lower()} it, {len(changes)} changes")
            for change in changes:
                self._say(f"  {change['Action']} {change['ResourceType']} {change['LogicalResourceId']}")
        finally:
            self._client.delete_change_set(StackName=name, ChangeSetName=change_set)
            if not exists:  # a change set for a new stack leaves an empty one in review
                self._client.delete_stack(StackName=name)


def _rests() -> Iterator[float]:
    """Seconds between two questions: a small stack is ready at once, a large one takes minutes."""
    rest = 0.1
    while True:
        yield rest
        rest = min(2 * rest, MOST_REST_SECONDS)


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", ())}


def _missing_outputs(body: str, before: Mapping[str, Any] | None) -> dict[str, str]:
    """`(OutputName)` for each output that the template declares and the stack has not."""
    section = body.partition("\nOutputs:\n")[2]
    names = [line.split(":")[0].strip() for line in section.splitlines() if line.startswith("  ") and line[2] != " "]
    return {name: f"({name})" for name in names if name not in _outputs(before or {})}
