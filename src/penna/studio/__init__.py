"""The studio: web pages over ``penna.api``, on the same server as the API of ``penna serve``."""
