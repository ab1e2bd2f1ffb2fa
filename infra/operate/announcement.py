"""What a recall says before it sends anything."""

from datetime import UTC, datetime

from .ending import console
from .forecast import ACCEPTED_PER_SECOND, Forecast, advice
from .ids import Ids
from .json_lines import Rows
from .plan import Plan
from .stack import Stack
from .times import CUT_OFF, shown, span


def announce(stack: Stack, plan: Plan, chosen: Ids, file: str) -> None:
    """Say what will be cancelled, from where, and how long it is until the cut-off."""
    source = file + (f", column {chosen.column}" if chosen.column else "")
    dropped = f", {chosen.duplicates:,} duplicates dropped" if chosen.duplicates else ""
    console.print(f"{len(chosen.ids):,} SMS to cancel, from {source}{dropped}")
    console.print("one id may stand for up to 500 recipients; it is cancelled for all of them")
    console.print(f"stack {stack.name} in {stack.region}, {stack.api_url}")
    times = [time for time in plan.send_at.values() if time]
    if not times:
        console.print("without --send-at they are tried for two hours, whatever their send times")
        return
    now = stack.now()
    first, last = min(times), max(times)
    when = f"at {shown(first)}" if first == last else f"from {shown(first)} to {shown(last)}"
    console.print(f"they go out {when}; AWS's clock says {shown(now.astimezone(first.tzinfo))}")
    if len(plan.past()) < len(plan.ids):
        due = times[0] - CUT_OFF
        left = span((due - now).total_seconds())
        console.print(f"the {'' if first == last else 'first '}cut-off is {shown(due)}, in {left}")
    if plan.past():
        tell_past(plan)


def tell_past(plan: Plan) -> None:
    """Say how many SMS are past their cut-off, and what will become of them."""
    past = plan.past()
    ago = span(plan.now_s - plan.cut_offs[past[0]])
    of = f"{len(past):,} of {len(plan.ids):,}"
    console.print(f"{of} are PAST THEIR CUT-OFF, the first by {ago}: they are tried last;")
    console.print("SMS Partner will refuse them unless their times are wrong")


def tell_forecast(stack: Stack, plan: Plan, predicted: Forecast) -> None:
    """Say when the last will be tried, and what to do if some will be too late."""
    if predicted.capacity.is_stopped:
        console.print("the worker is STOPPED (infra/runbook.md, Stop everything): start it again")
        return
    outlook = predicted.outlook(plan.cut_offs.values(), plan.now_s)
    console.print(f"forecast: {predicted}: {outlook}")
    if outlook.late:
        rates = predicted.per_second, ACCEPTED_PER_SECOND
        console.print(advice(stack, predicted.capacity, outlook, *rates))


def rows(plan: Plan, predicted: Forecast) -> Rows:
    """Yield what a dry run says about each id. ``in_time`` is null without a send time.

    While the worker is stopped there is no forecast: ``asked_at`` and ``in_time`` are null.
    """
    is_stopped = predicted.capacity.is_stopped
    for number, (message_id, send_at) in enumerate(plan.send_at.items(), 1):
        asked_s = plan.now_s + predicted.asked_s(number)
        cut_off = send_at and (send_at - CUT_OFF).isoformat()
        yield {
            "id": message_id,
            "send_at": send_at and send_at.isoformat(),
            "cut_off": cut_off,
            "asked_at": None if is_stopped else _iso(asked_s),
            "in_time": asked_s < plan.cut_offs[message_id] if send_at and not is_stopped else None,
        }


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
