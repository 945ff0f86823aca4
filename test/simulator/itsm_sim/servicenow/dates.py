"""Dates in queries and answers: the caller's time zone and the server-side
script functions of encoded queries (§2.5)."""
import datetime
import re
import zoneinfo

UTC = datetime.timezone.utc
CALL = re.compile(r"gs\.(\w+)\(([^()]*)\)\Z")
UNITS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
MONTHS = {"month": 1, "quarter": 3, "year": 12}


def text(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S")


class Dates:
    def __init__(self, platform):
        self.platform = platform

    def zone(self, user):
        """The user's own zone, else the instance's."""
        name = user.time_zone if user is not None else ""
        name = name or self.platform.prop("glide.sys.default.tz") or "UTC"
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return UTC

    def now(self, user):
        return datetime.datetime.fromtimestamp(
            self.platform.clock.now(), self.zone(user))

    def to_user(self, utc_text, user):
        """Display value of a datetime: the calling user's zone (§2.2)."""
        try:
            moment = datetime.datetime.strptime(utc_text, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            return utc_text
        return text(moment.replace(tzinfo=UTC).astimezone(self.zone(user)))

    def from_user(self, local, user):
        try:
            moment = datetime.datetime.strptime(local, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            return local
        return text(moment.replace(tzinfo=self.zone(user)).astimezone(UTC))

    def span(self, column, value, user):
        """(first, last) second, as the column stores it, that a literal or
        script means; (None, None) if it means nothing."""
        local = self._parse(value, user)
        if local is None:
            return None, None
        first, last = local
        if column.kind == "date":
            return first.strftime("%Y-%m-%d"), last.strftime("%Y-%m-%d")
        return text(first.astimezone(UTC)), text(last.astimezone(UTC))

    def _parse(self, value, user):
        if value.startswith("javascript:"):
            return self._script(value[11:], user)
        zone = self.zone(user)
        try:
            if len(value) > 10:
                moment = datetime.datetime.strptime(value, "%Y-%m-%d %H:%M:%S")
                return (moment.replace(tzinfo=zone),) * 2
            day = datetime.datetime.strptime(value, "%Y-%m-%d")
        except ValueError:
            return None
        day = day.replace(tzinfo=zone)
        return day, day.replace(hour=23, minute=59, second=59)

    def _script(self, source, user):
        match = CALL.match(source.strip())
        if not match:
            return None
        name = match.group(1)
        args = [a.strip().strip("'\"") for a in match.group(2).split(",")]
        now = self.now(user)
        try:
            if name == "dateGenerate":
                value = args[0] + " " + (args[1] if len(args) > 1 else "00:00:00")
                if len(args) > 1 and args[1] in ("start", "end"):
                    value = args[0] + (" 00:00:00" if args[1] == "start"
                                       else " 23:59:59")
                return self._parse(value, user)
            if name in ("now", "nowDateTime"):
                return now, now
            count = int(args[0]) if args[0] else 0
        except ValueError:
            return None
        return self._ago(name, now, count)

    @staticmethod
    def _ago(name, now, count):
        start = dict(hour=0, minute=0, second=0, microsecond=0)
        end = dict(hour=23, minute=59, second=59, microsecond=0)
        back = now - datetime.timedelta(days=count)
        table = {
            "daysAgo": back, "daysAgoStart": back.replace(**start),
            "daysAgoEnd": back.replace(**end),
            "beginningOfToday": now.replace(**start),
            "endOfToday": now.replace(**end),
            "beginningOfYesterday": (now - datetime.timedelta(days=1)).replace(**start),
            "endOfYesterday": (now - datetime.timedelta(days=1)).replace(**end),
            "beginningOfThisMonth": now.replace(day=1, **start),
            "hoursAgo": now - datetime.timedelta(hours=count),
            "hoursAgoStart": (now - datetime.timedelta(hours=count)).replace(
                minute=0, second=0, microsecond=0),
            "minutesAgo": now - datetime.timedelta(minutes=count),
            "minutesAgoStart": (now - datetime.timedelta(minutes=count)).replace(
                second=0, microsecond=0),
        }
        moment = table.get(name)
        return None if moment is None else (moment, moment)

    def relative(self, value, user):
        """``@hour@ago@1`` of RELATIVEGT and its kin, as UTC text."""
        pieces = value.split("@")
        if (len(pieces) != 4 or pieces[0]
                or pieces[2] not in ("ago", "ahead")):
            return None
        _, unit, direction, count = pieces
        if not count.isdigit() or len(count) > 6:
            return None
        amount = int(count) * (-1 if direction == "ago" else 1)
        now = self.now(user).astimezone(UTC)
        try:
            if unit in UNITS:
                delta = datetime.timedelta(seconds=amount * UNITS[unit])
            elif unit in MONTHS:
                delta = datetime.timedelta(days=30 * amount * MONTHS[unit])
            else:
                return None
            return text(now + delta)
        except OverflowError:
            return None

    def script_text(self, source, user):
        """A script whose result is no date: the caller's own ids."""
        match = CALL.match(source.strip())
        if match and user is not None:
            if match.group(1) == "getUserID":
                return user.sys_id
            if match.group(1) == "getUserName":
                return user.user_name
        return None
