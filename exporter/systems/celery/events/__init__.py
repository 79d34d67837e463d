"""What Celery's workers and producers publish: frames of events, read and handed to those who keep account."""
