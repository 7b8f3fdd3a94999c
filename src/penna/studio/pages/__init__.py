"""The pages of the studio, one module each: ``WORDS`` in three languages, and ``add``, which puts it in place."""
