"""One simulated ServiceNow instance."""
from .platform import Instance

__all__ = ["Instance"]
