"""Simulator of the platforms that pgsync_itsm publishes to.

The modules at this level belong to no platform in particular (command line,
HTTP front, faults, switches, control, clock, request log).  ``platform`` says
what a platform has to have; ``servicenow`` and ``halo`` are the two there are.

"§" in comments of a package refers to the sections of that platform's API
reference of the project, and [C], [L], [A] to its tags (confirmed, confirmed
live, assumed).
"""
