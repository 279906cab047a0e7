"""The services' policies of infra/template.yaml on buckets of a test's own: users that may do what the role may."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from local import provision
from local.aws import AccessKey, Aws
from local.template import read_template

_NAME = re.compile(r"\$\{([A-Za-z.]+)\}")


def policy(service: str, arns: Mapping[str, str]) -> dict[str, Any]:
    """The document of `{service}Policy`; `arns` by the template's names. What is about other resources is left out."""
    resources = read_template(provision.TEMPLATE)["Resources"]
    statements = []
    for statement in resources[f"{service}Policy"]["Properties"]["PolicyDocument"]["Statement"]:
        names = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        found = [arn for name in names if (arn := _arn(next(iter(name.values())), arns)) is not None]
        if found:
            statements.append({**statement, "Resource": found})
    return provision.policy_document(statements)


def _arn(text: str, arns: Mapping[str, str]) -> str | None:
    whole = text if "$" in text else f"${{{text}}}"
    if not all(name in arns for name in _NAME.findall(whole)):
        return None
    return _NAME.sub(lambda match: arns[match[1]], whole)


async def user(aws: Aws, service: str, *, raw: str, processed: str) -> AccessKey:
    """The key of a new user with the policy of `service` on these buckets, and no other right."""
    arns = {"RawBucket.Arn": f"arn:aws:s3:::{raw}", "ProcessedBucket.Arn": f"arn:aws:s3:::{processed}"}
    name = f"{service.lower()}-{uuid.uuid4().hex[:8]}"
    return await provision.ensure_user(aws, name, None, policy=policy(service, arns))
