"""What workers tell of themselves that use the distribution taskqueue-hooks: see hooks/README.md for their records."""
