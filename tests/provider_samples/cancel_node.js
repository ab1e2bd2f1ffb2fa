// Cancels as the provider's page does with Node. URL, key and id: the three arguments.
const http = require('http');

const [url, apiKey, messageId] = process.argv.slice(2);

http.get(`${url}/message-cancel?apiKey=${apiKey}&messageId=${messageId}`, (response) => {
  let body = '';
  response.setEncoding('utf8');
  response.on('data', (chunk) => { body += chunk; });
  response.on('end', () => {
    process.stdout.write(body);
    process.exitCode = JSON.parse(body).success === true ? 0 : 1;
  });
}).on('error', (error) => {
  console.error(error.code);
  process.exitCode = 2;
});
