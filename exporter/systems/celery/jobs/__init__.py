"""The task table: what events told of each job, and the job events that come of it."""
