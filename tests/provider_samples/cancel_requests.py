"""Cancels as the provider's page does with requests. URL, key and id: the three arguments."""

import sys

import requests

url, api_key, message_id = sys.argv[1:]
answer = requests.get(f"{url}/message-cancel?apiKey={api_key}&messageId={message_id}", timeout=10)
sys.stdout.buffer.write(answer.content)
sys.exit(0 if answer.json().get("success") is True else 1)
