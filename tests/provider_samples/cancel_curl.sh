#!/bin/sh
# Cancels as the provider's page does with curl. URL, key and id: the three arguments.
# The URL is quoted here. On the page it is not: the shell ends the command at its `&`.
exec curl --silent --show-error --max-time 10 -H "Content-Type: application/json" \
    -X GET "$1/message-cancel?apiKey=$2&messageId=$3"
