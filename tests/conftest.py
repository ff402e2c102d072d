"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import settings

# No test's outcome depends on time (pytest-timeout only ends what hangs), so no deadline for an example either.
# What the current profile sets otherwise stays: under CI, hypothesis chooses its examples reproducibly.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")
