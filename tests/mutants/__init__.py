"""Seeded mutants: small breaks of the core, and which tests notice. ``python -m mutants`` runs them."""
