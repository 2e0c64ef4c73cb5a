"""The ``qkvault`` command: parses, calls one function, prints. Only this package knows click."""
