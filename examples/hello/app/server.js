// Answers with what it can see of the machine it runs on.
const { readdirSync } = require("node:fs");
const { createServer } = require("node:http");
const { hostname } = require("node:os");

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  response.setHeader("content-type", "application/json");
  response.end(
    `${JSON.stringify({ hello: "from inside", host: hostname(), interfaces: readdirSync("/sys/class/net") })}\n`,
  );
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => {
  console.log("closing");
  server.close();
  server.closeAllConnections();
});
