"""The privacy engine: a client's settings compiled into a policy, which turns a record into what the client may get.

Pure: no clock, no I/O, no logs. docs/privacy.md says what each level does, for a data protection officer.
"""

from pipeline.privacy.errors import PolicyError, UnparsableRecord
from pipeline.privacy.policy import Filtered, Policy, compile_policy

__all__ = ["Filtered", "Policy", "PolicyError", "UnparsableRecord", "compile_policy"]
