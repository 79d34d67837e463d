"""What generates documents from the project's other files."""
