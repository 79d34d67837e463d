"""Celery's workers: who is alive, what runs in them, which queues they consume."""
