"""ARQ's queues as a scrape sees them: what is due, what runs, what is left behind."""
