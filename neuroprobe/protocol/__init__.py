"""Recording protocols: schema, strict reader, hash."""

from neuroprobe.protocol.reader import load_protocol
from neuroprobe.protocol.schema import Protocol

__all__ = ["Protocol", "load_protocol"]
