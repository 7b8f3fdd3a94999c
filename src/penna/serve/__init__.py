"""Models behind an HTTP API: requests in, answers out, many at once and none at another's cost."""
