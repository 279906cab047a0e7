"""What the pipeline needs from AWS, and how all of it is deployed."""
