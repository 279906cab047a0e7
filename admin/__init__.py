"""What people ask of the pipeline over HTTP. So far: where every stage stands, and whether the ledger balances."""
