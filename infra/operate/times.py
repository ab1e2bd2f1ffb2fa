"""Times as people and exports write them: an ambiguous one is refused, not guessed."""

import re
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

CUT_OFF = timedelta(minutes=5)  # before the send time; SMS Partner cancels nothing later

FORM = re.compile(
    r"""(?: (?P<year>\d{4}) (?P<a>[-/.]) (?P<month>\d{1,2}) (?P=a) (?P<day>\d{1,2})
          | (?P<one>\d{1,2}) (?P<b>[-/.]) (?P<two>\d{1,2}) (?P=b) (?P<last>\d{4}) )
        (?: (?: (?P<t>T) | ,?\s+ )
            (?P<hour>\d{1,2}) [:h] (?P<minute>\d{2}) (?: :(?P<second>\d{2}) (?:\.(?P<part>\d+))? )?
            \s* (?P<offset> Z | UTC | [+-]\d{2} (?: :?[0-5]\d )? )? )?""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)


LEAST, MOST = timedelta(hours=-12), timedelta(hours=14)  # the offsets that are in use
NO_PLACES = ("Etc/", "posix/", "right/", "SystemV/")  # groups of zones that are not places


class Unclear(Exception):
    """A text is not one certain time; the exception's text says why, as the end of a sentence."""


class Reader(NamedTuple):
    """Reads times. ``zone``: for those without an offset; ``day_first``: 03/04/2030 is 3 April.

    A date is 2030-01-15 or 15/01/2030, with dashes, dots or slashes. Then comes 09:00 or 09:00:00,
    and an offset such as Z or +01:00, which may be left out if there is a zone.
    """

    zone: ZoneInfo | None = None
    day_first: bool = False

    def read(self, text: str) -> datetime:
        """Return a time with an offset; raise Unclear if it is not certain."""
        if not text:
            raise Unclear("is empty")
        if not (found := _match(text)):
            raise Unclear(f"is not a time like {example()}")
        if not found["hour"]:
            raise Unclear("has no time of day")
        part = (found["part"] or "")[:6].ljust(6, "0")
        clock = [int(each or 0) for each in (*found.group("hour", "minute", "second"), part)]
        try:
            local = datetime(*self._date(found), *clock)  # type: ignore[arg-type]  # noqa: DTZ001
            time = self._place(local, found)
            _ = time.astimezone(UTC) - CUT_OFF  # the cut-off must be valid, too
        except (ValueError, OverflowError):
            raise Unclear("is not a valid date and time") from None
        return time

    def _date(self, found: re.Match[str]) -> tuple[int, int, int]:
        """Return year, month, day."""
        if found["year"]:
            return int(found["year"]), int(found["month"]), int(found["day"])
        year, one, two = (int(found[each]) for each in ("last", "one", "two"))
        if self.day_first or one > 12 or one == two:
            return year, two, one
        if two > 12:
            return year, one, two
        either = f"{year}-{two:02}-{one:02} or {year}-{one:02}-{two:02}"
        raise Unclear(
            f"may be {either}: write it like that, or pass --day-first if the day comes first"
        )

    def _place(self, local: datetime, found: re.Match[str]) -> datetime:
        if offset := (found["offset"] or "").upper().replace("UTC", "Z"):
            time = datetime.fromisoformat(local.isoformat() + offset)
            self._check_offset(local, time.utcoffset() or timedelta(), found)
            return time
        if not self.zone:
            raise Unclear(f"has no offset: write it like {example()}, or pass --timezone")
        first, second = self._folds(local)
        if first.utcoffset() == second.utcoffset():
            return datetime.fromisoformat(first.isoformat())  # with its offset, not its zone
        if first.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != local:
            raise Unclear(f"does not exist in {self.zone}, because the clocks skip it")
        offsets = " or ".join(each.isoformat()[-6:] for each in (first, second))
        raise Unclear(f"occurs twice in {self.zone}, because the clocks go back: add {offsets}")

    def _folds(self, local: datetime) -> list[datetime]:
        return [local.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1)]

    def _check_offset(self, local: datetime, offset: timedelta, found: re.Match[str]) -> None:
        """Raise Unclear if it may be the end of a time range, as in 09:00-10:30.

        The offset that the zone has at that time is fine: even as a range it begins at that time.
        """
        is_negative = found["offset"].startswith("-")
        if self.zone:
            own = {each.utcoffset() for each in self._folds(local)}
            if offset not in own and (offset or is_negative):
                text = f"has an offset that {self.zone} does not have at that time"
                raise Unclear(f"{text}: is it a time range?")
        elif not LEAST <= offset <= MOST:
            raise Unclear("has an offset that is not in use anywhere")
        elif is_negative and not found["t"] and not found["second"]:
            like = f"write it like {example()}, or pass --timezone"
            raise Unclear(f"may be a time range: {like}")


def order(text: str) -> str:
    """Return which part of a date comes first, "day" or "month"; "" if that is not certain."""
    found = _match(text)
    if not found or found["year"]:
        return ""
    one, two = int(found["one"]), int(found["two"])
    return "day" if one > 12 else "month" if two > 12 else ""


def _match(text: str) -> re.Match[str] | None:
    """Match a time; NFKC turns the special spaces of spreadsheets into plain ones."""
    return FORM.fullmatch(unicodedata.normalize("NFKC", text))


def zone(name: str) -> ZoneInfo:
    """Return the time zone with this name; raise Unclear unless it is that of a place, or UTC.

    EST, Etc/GMT+1 and the like have no summer time, or the opposite sign of what people expect.
    """
    name = name.strip()
    is_place = "/" in name and not name.startswith(NO_PLACES)
    with suppress(ValueError, OSError, LookupError):  # not found: KeyError, a folder: OSError
        if is_place or name == "UTC":
            return ZoneInfo(name)
    raise Unclear("is not a time zone like Europe/Paris")


def example() -> str:
    """Return tomorrow at nine with this machine's offset."""
    tomorrow = datetime.now().astimezone() + timedelta(days=1)
    return tomorrow.replace(hour=9, minute=0).isoformat(timespec="minutes")


def shown(time: datetime) -> str:
    return time.isoformat(" ", "minutes")


def span(seconds: float) -> str:
    """Return a duration for people, in two units at most."""
    whole = round(abs(seconds))
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
    minutes = round(whole / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{days} day{'s' * (days > 1)}"] if days else []
    parts += [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes and not days else []
    return " ".join(parts)
