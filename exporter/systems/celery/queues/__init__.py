"""Celery's queues as they stand in Redis: depths, heads, what is unacknowledged, and the search for them."""
