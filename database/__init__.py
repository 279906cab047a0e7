"""The source database and the ledger: schema, migrations, preflight, queries."""
