"""The ``missu`` command: parses, calls the library, prints."""
