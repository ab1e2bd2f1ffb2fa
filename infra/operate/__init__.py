"""The two commands for people: ``recall`` cancels a campaign, ``redrive`` retries dead letters.

``recall`` parses its ``options``, reads ids (``table``, ``columns``, ``ids``) and ``times``, makes
a ``plan``, looks up the stack's ``capacity`` and makes a ``forecast``, says what it will do
(``announcement``), puts the ids on the queue (``sending``) and, with ``--wait``, follows them
(``follow``) to their ``outcomes``. People see its ``progress``, with a ``lookout`` that warns of
what will be late; programs get ``json_lines``. Both commands find their ``stack``, read the
``dead_letters`` and exit through an ``ending``.
"""
