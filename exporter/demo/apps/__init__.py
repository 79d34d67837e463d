"""Sample applications: the only modules of the exporter that import arq and celery, run only in child processes."""
