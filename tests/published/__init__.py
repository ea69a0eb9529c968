"""Figures of K/V caches that others published, next to ours: ``python -m tests.published.page`` writes the document."""
