"""Date-times: no zone on the way out, with or without one on the way in
(§2.6); UTC [A]."""
import datetime

UNSET = "1900-01-01T00:00:00"


def stamp(seconds):
    """``2026-03-04T09:15:00.123``"""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + "%03d" % (
        moment.microsecond // 1000)


def event_stamp(seconds):
    """``2026-05-01T08:30:12.1234567Z``, as webhooks have it (§4.2)."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def parse(text):
    """The text in the form that is stored; ValueError if it is no date."""
    moment = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if moment.microsecond:
        whole += ".%03d" % (moment.microsecond // 1000)
    return whole
