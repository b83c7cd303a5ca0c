"""Profiles for property tests; fixtures live beside the tests that use them."""

from hypothesis import settings

settings.register_profile("test", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("verify", max_examples=1_000, deadline=None)
settings.load_profile("test")
