"""A pytest plugin: Hypothesis stops at the first failure. Which one it is matters here, a small example does not."""

from hypothesis import Phase, settings

settings.register_profile(
    "mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate], print_blob=False
)
