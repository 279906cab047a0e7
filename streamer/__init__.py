"""From PostgreSQL's write-ahead log into Kafka and one-minute raw files."""
