"""Kept results, for the ends of jobs that nobody heard of while the events were not heard."""
