"""The HTTP surface: an ASGI application and the server that runs it."""
