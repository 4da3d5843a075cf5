// Answers with what it can see of the machine it runs on.
const { createServer } = require("node:http");
const { hostname, networkInterfaces } = require("node:os");

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  response.setHeader("content-type", "application/json");
  response.end(
    `${JSON.stringify({ hello: "from inside", host: hostname(), interfaces: Object.keys(networkInterfaces()) })}\n`,
  );
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => {
  console.log("closing");
  server.close();
  server.closeAllConnections();
});
