"""The two commands for people: ``recall`` cancels a campaign, ``redrive`` retries dead letters.

``recall`` reads ids (``table``, ``ids``), puts them on the queue (``sending``) and, when asked to,
follows them (``follow``) to their ``outcomes``. Both commands find their ``stack``, look into the
``dead_letters`` and stop by an ``ending``.
"""
