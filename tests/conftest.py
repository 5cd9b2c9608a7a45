"""What all tests share: the hypothesis profiles."""

import os

from hypothesis import HealthCheck, settings

base = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("dev", base, max_examples=50)
settings.register_profile("ci", base, max_examples=300, derandomize=True, print_blob=True)
settings.register_profile("nightly", base, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
