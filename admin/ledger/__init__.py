"""What the admin reads and keeps in the ledger: users and sessions, and the figures behind its pages."""
