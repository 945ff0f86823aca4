"""The simulator's clock: real time plus what tests have added to it."""
import time


class Clock:
    def __init__(self):
        self.offset = 0.0

    def now(self):
        return time.time() + self.offset

    def advance(self, seconds):
        self.offset += seconds

    def stamp(self, ahead=0):
        """UTC, resolution one second, no zone mark (§2.2, §2.6)."""
        return format_utc(self.now() + ahead)


def format_utc(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
