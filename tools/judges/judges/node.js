// Answers every request, and prints each whole one: its method, and its body in hexadecimal.
const http = require("node:http");

const [host, port] = process.argv[2].split(":");

http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    console.log(`${request.method} ${Buffer.concat(pieces).toString("hex")}`);
    response.end();
  });
}).listen(Number(port), host);
