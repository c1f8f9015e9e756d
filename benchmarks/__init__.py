"""What the gateway costs, measured beside a reference in the same run. How and why: ``docs/performance.md``."""
