"""What the service is held against, each a program of its own that listens on a port."""
