"""One simulated HaloITSM tenant.

"§" in comments of this package refers to the sections of the HaloITSM API
reference of the project; [C], [L], [A] to its marks (confirmed, confirmed
live, assumed).  What is assumed takes the harsher reading and has a switch.
"""
from .platform import Tenant

__all__ = ["Tenant"]
