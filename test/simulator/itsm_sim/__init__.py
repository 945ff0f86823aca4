"""Simulator of the platforms that pgsync_itsm publishes to.

The modules at this level belong to no platform in particular (command line,
HTTP front, faults, limits, control).  The ServiceNow side is in
``servicenow``; another platform is a package beside it with an object that
has the methods of ``servicenow.Instance`` named in ``front.Front.platform_for``.

"§" in comments refers to the sections of the ServiceNow API reference of the
project, and [C], [L], [A] to its tags (confirmed, confirmed live, assumed).
"""
