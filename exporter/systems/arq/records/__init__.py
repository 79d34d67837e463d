"""What arq writes about a job, read without running it: its definition, and how it ended."""
