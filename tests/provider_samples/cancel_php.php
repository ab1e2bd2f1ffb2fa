<?php
// Cancels as the provider's page does with PHP. URL, key and id: the three arguments.
[, $url, $apiKey, $messageId] = $argv;

$curl = curl_init("$url/message-cancel?apiKey=$apiKey&messageId=$messageId");
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
curl_setopt($curl, CURLOPT_TIMEOUT, 10);
$body = curl_exec($curl);

echo $body;
exit(json_decode($body)->success === true ? 0 : 1);
