"""The two commands for people: ``recall`` cancels a campaign, ``redrive`` retries dead letters.

``recall`` (its ``options``) reads ids (``table``, ``columns``, ``ids``) and ``times``, makes a
``plan``, asks for the stack's ``capacity`` and makes a ``forecast``, says what it will do
(``announcement``), puts the ids on the queue (``sending``) and, when asked to, follows them
(``follow``) to their ``outcomes``: for a person (``progress``, with a ``lookout`` for what will be
late), or for ``programs``. Both commands find their ``stack``, look into the ``dead_letters`` and
stop by an ``ending``.
"""
