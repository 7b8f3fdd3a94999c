"""The browser face of Penna: pages over ``penna.api``, on the server of ``penna serve``."""
