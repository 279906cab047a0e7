"""From processed objects to files and manifests in the buckets of clients, as the schedule or a person asks for it."""
