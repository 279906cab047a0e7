"""What an operator reads when a client's bucket refuses: each code of S3, STS and KMS in words, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import ClientError

from pipeline.errors import PermanentError, PipelineError, TransientError


@dataclass(frozen=True, slots=True)
class Failure:
    """What is written down: `error_class` for machines, `error` for the operator."""

    error_class: str
    error: str


class ClientBucketError(PermanentError):
    """The client's bucket refuses; nothing but a change of settings helps. `code` is the service's own word."""

    def __init__(self, code: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code


_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,3}-[0-9]", re.ASCII)
_LONGEST = 1000

_CHECK_KEYS = "enter the keys anew in the client's settings"
_CHECK_REGION = "correct the region in the client's settings"
_KMS_OFF = "enable it, or change the client's KMS key"
_WAITS = "nothing to do: it is tried again by itself"
_CLOCK = "set this machine's clock by NTP; S3 accepts a quarter of an hour of difference"

# code: (what is the matter, what to do)
PERMANENT_WORDS: dict[str, tuple[str, str]] = {
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
    "KMS.DisabledException": ("the KMS key is disabled", _KMS_OFF),
    "KMS.InvalidStateException": ("the KMS key can't be used in its state", _KMS_OFF),
    "KMS.KeyUnavailableException": ("the KMS key can't be used", _KMS_OFF),
    "KMS.NotFoundException": ("the KMS key does not exist", "correct the KMS key in the client's settings"),
    "MethodNotAllowed": ("the endpoint does not take objects", "correct the endpoint in the client's settings"),
    "NoSuchBucket": ("the bucket does not exist", "create it, or correct bucket and region in the client's settings"),
    "NotSignedUp": ("the account of the bucket has no S3", "its owner has to settle it with the provider"),
    "PermanentRedirect": ("the bucket is in another region", _CHECK_REGION),
    "QuotaExceeded": ("the bucket is full", "its owner has to raise the quota"),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _CHECK_KEYS),
}

TRANSIENT_WORDS: dict[str, tuple[str, str]] = {
    "BadDigest": ("the object was damaged on its way", _WAITS),
    "ConditionalRequestConflict": ("another write of the same key was under way", _WAITS),
    "InternalError": ("the bucket's service has a fault", _WAITS),
    "OperationAborted": ("another change of the bucket was under way", _WAITS),
    "RequestTimeout": ("the bucket's service waited too long for the object", "look at the network if it goes on"),
    "RequestTimeTooSkewed": ("the clocks of this machine and of the bucket's service differ", _CLOCK),
    "ServiceUnavailable": ("the bucket's service is overloaded", _WAITS),
    "SlowDown": ("the bucket's service asks for fewer requests", _WAITS),
    "Throttling": ("the service asks for fewer requests", _WAITS),
    "ThrottlingException": ("the service asks for fewer requests", _WAITS),
    "XAmzContentChecksumMismatch": ("the object was damaged on its way", _WAITS),
    "XAmzContentSHA256Mismatch": ("the object was damaged on its way", _WAITS),
}

_KMS_DENIED = (
    "the KMS key may not be used",
    "the KMS key's policy must allow kms:GenerateDataKey (and kms:Decrypt for files in parts) to the key or role",
)

_UNREACHABLE: dict[str, tuple[str, str]] = {
    "ConnectTimeoutError": ("it does not answer", "check the endpoint, and that a firewall lets this network through"),
    "EndpointConnectionError": ("nothing answers at this address", "check the endpoint's host and port"),
    "ReadTimeoutError": ("it took the request and did not answer", "tried again by itself; look at the endpoint"),
    "SSLError": ("its TLS certificate is not valid", "the endpoint needs a certificate for its name, of a public CA"),
}


def refusal(error: PipelineError, subject: str) -> ClientBucketError | TransientError:
    """`error` of the S3 adapter or of STS in words; `subject` says what was tried, e.g. `s3://bucket/prefix`.

    What was transient stays so.
    """
    code = code_of(error)
    if isinstance(error, TransientError):
        what, hint = TRANSIENT_WORDS.get(code) or _UNREACHABLE.get(code) or (str(error.args[0]), error.hint or _WAITS)
        return TransientError(f"{subject}: {what} [{code}]", hint=hint)
    what, hint = PERMANENT_WORDS.get(
        code, (f"refused with code {code}", "look the code up in the provider's documentation")
    )
    if code == "AccessDenied" and "kms:" in _text(error):
        what, hint = _KMS_DENIED
    if hint == _CHECK_REGION and (region := _region(error)):
        what = f"the bucket is in the region {region}"
    return ClientBucketError(code, f"{subject}: {what} [{code}]", hint=hint)


def code_of(error: BaseException) -> str:
    """The service's own code behind `error`, else the name of its class, or of what a connection failed of."""
    if isinstance(error, ClientBucketError):
        return error.code
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        code = str(cause.response.get("Error", {}).get("Code", ""))
        return code if _CODE.fullmatch(code) else "Unknown"  # an endpoint may answer whatever it likes
    return type(cause).__name__ if type(cause).__name__ in _UNREACHABLE else type(error).__name__


def failure_of(error: BaseException) -> Failure:
    """What to write down. Of an error that is none of ours only the class: its text may hold anything."""
    if isinstance(error, PipelineError):
        return Failure(code_of(error), str(error)[:_LONGEST])
    return Failure(type(error).__name__, "an error inside the syncer; its log has the traceback")


def _region(error: PipelineError) -> str:
    """The region that the service names, which is no secret; empty when it names none."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return ""
    headers = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = cause.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", "")
    return named if _REGION.fullmatch(str(named)) else ""


def _text(error: PipelineError) -> str:
    """The service's own sentence: to be looked into, never to be shown."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Message", "")) if isinstance(cause, ClientError) else ""
