"""What happens to ARQ's jobs, followed as it happens: kept results, and jobs that end without one."""
