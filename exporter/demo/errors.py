"""What can end the demo early."""


class DemoError(Exception):
    """The demo cannot start; the message is one line that says what to do about it."""


class ChildFailed(Exception):
    """A process of the demo ended by itself or never answered; the message names it and carries its log's tail."""
