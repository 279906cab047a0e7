"""`python -m database retention`: what is old enough and needed by nobody is deleted, from S3 and from the ledger.

A command and not a part of a service: none of the services may delete an object, so the rights for it belong to one
daily job. Every decision is a condition in the ledger, checked in the statement that records it; an object is deleted
after that, never before. The audit log is exempt.
"""
