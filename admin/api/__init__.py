"""The REST API under /api/v1, for programs. Pages do the same by other doors."""
