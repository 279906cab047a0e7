"""`python -m database rebuild-ledger`: the ledger again, after it was lost or set back to an older state.

What S3 holds is read, what was committed is told from what was only begun, and what the ledger lacks is added, in one
transaction. Where S3 can't tell, the decision falls on the side that delivers nothing twice, and is said.
"""
