"""Cancels with http.client, as the provider's pages use it. URL, key and id: the arguments."""

import http.client
import json
import sys
from urllib.parse import urlsplit

url, api_key, message_id = sys.argv[1:]
parts = urlsplit(url)
connection = http.client.HTTPConnection(parts.netloc, timeout=10)
headers = {"Content-Type": "application/json", "cache-control": "no-cache"}
path = f"{parts.path}/message-cancel?apiKey={api_key}&messageId={message_id}"
connection.request("GET", path, headers=headers)
body = connection.getresponse().read()
sys.stdout.buffer.write(body)
sys.exit(0 if json.loads(body)["success"] is True else 1)
