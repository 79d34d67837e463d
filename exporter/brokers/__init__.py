"""Reaching brokers: where one is (`Address`), and pulled reads from it (`Pulls`) over bounded connections."""
