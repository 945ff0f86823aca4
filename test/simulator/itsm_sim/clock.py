"""The simulator's clock: real time plus what tests have added to it."""
import datetime
import time


class Clock:
    def __init__(self):
        self.offset = 0.0

    def now(self):
        return time.time() + self.offset

    def advance(self, seconds):
        self.offset += seconds

    def set(self, moment):
        """To seconds since 1970, or to a UTC text without zone; it goes on
        from there."""
        if isinstance(moment, str):
            moment = datetime.datetime.fromisoformat(moment).replace(
                tzinfo=datetime.timezone.utc).timestamp()
        self.offset = float(moment) - time.time()

    def stamp(self, ahead=0):
        """UTC, resolution one second, no zone mark (§2.2, §2.6)."""
        return format_utc(self.now() + ahead)


def format_utc(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
