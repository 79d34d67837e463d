"""The ends of jobs: each counted once, whoever tells of it."""
