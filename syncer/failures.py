"""What an operator reads when a delivery fails: each code of S3, STS and KMS in words, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import ClientError

from pipeline.errors import PermanentError, PipelineError


@dataclass(frozen=True, slots=True)
class Failure:
    """What goes into the run's row: `error_class` for machines, `error` for the operator."""

    error_class: str
    error: str


class ClientBucketError(PermanentError):
    """The client's bucket refuses; nothing but a change of settings helps. `code` is the service's own word."""

    def __init__(self, code: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code


_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}", re.ASCII)
_LONGEST = 1000

_CHECK_KEYS = "enter the keys anew in the client's settings"
_CHECK_REGION = "correct the region in the client's settings"

# code: (what is the matter, what to do)
WORDS: dict[str, tuple[str, str]] = {
    "AccessDenied": (
        "the bucket denies the write",
        "the key or role needs s3:PutObject below the prefix; check bucket policy, expected owner, and the KMS key's"
        " policy (kms:GenerateDataKey)",
    ),
    "AccountProblem": ("the account of the bucket has a problem", "its owner has to settle it with the provider"),
    "AllAccessDisabled": ("all access to the bucket is disabled", "its owner has to settle it with the provider"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _CHECK_REGION),
    "ExpiredToken": ("the temporary credentials have expired", "check the clock of this machine"),
    "IllegalLocationConstraintException": ("the bucket is in another region", _CHECK_REGION),
    "InvalidAccessKeyId": ("the access key does not exist: revoked, or mistyped", _CHECK_KEYS),
    "InvalidBucketName": ("no bucket can have this name", "correct the bucket in the client's settings"),
    "InvalidObjectState": ("the bucket can't take the object", "check object lock and storage class of the bucket"),
    "InvalidRequest": ("the bucket refuses the request as invalid", "check endpoint, KMS key and object lock"),
    "InvalidSecurity": ("the keys are not valid", _CHECK_KEYS),
    "InvalidToken": ("the keys are not valid", _CHECK_KEYS),
    "KMS.DisabledException": ("the KMS key is disabled", "enable it, or change the client's KMS key"),
    "KMS.InvalidStateException": ("the KMS key can't be used in its state", "enable it, or change the KMS key"),
    "KMS.KeyUnavailableException": ("the KMS key can't be used", "enable it, or change the client's KMS key"),
    "KMS.NotFoundException": ("the KMS key does not exist", "correct the KMS key in the client's settings"),
    "MethodNotAllowed": ("the endpoint does not take objects", "correct the endpoint in the client's settings"),
    "NoSuchBucket": ("the bucket does not exist", "create it, or correct bucket and region in the client's settings"),
    "NotSignedUp": ("the account of the bucket has no S3", "its owner has to settle it with the provider"),
    "PermanentRedirect": ("the bucket is in another region", _CHECK_REGION),
    "QuotaExceeded": ("the bucket is full", "its owner has to raise the quota"),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _CHECK_KEYS),
}


def client_bucket_error(error: PermanentError, subject: str) -> ClientBucketError:
    """`error` of the S3 adapter or of STS in words; `subject` says what was tried, e.g. `s3://bucket/prefix`."""
    code = code_of(error)
    what, hint = WORDS.get(code, (f"refused with code {code}", "look the code up in the provider's documentation"))
    return ClientBucketError(code, f"{subject}: {what} [{code}]", hint=hint)


def code_of(error: BaseException) -> str:
    """The service's own code behind `error`, else the name of its class."""
    if isinstance(error, ClientBucketError):
        return error.code
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        code = str(cause.response.get("Error", {}).get("Code", ""))
        return code if _CODE.fullmatch(code) else "Unknown"  # an endpoint may answer whatever it likes
    return type(error).__name__


def failure_of(error: BaseException) -> Failure:
    """What to write down. Of an error that is none of ours only the class: its text may hold anything."""
    if isinstance(error, PipelineError):
        return Failure(code_of(error), str(error)[:_LONGEST])
    return Failure(type(error).__name__, "an error inside the syncer; its log has the traceback")
