"""What all services share: positions, events, clients, ports, errors, settings, health, logs and metrics."""
