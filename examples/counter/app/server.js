// GET / adds one to a counter in Redis and answers with it. Redis is spoken to over a plain socket.
const { createServer } = require("node:http");
const { connect } = require("node:net");

const DEADLINE_MS = 2000;
const redisPort = Number(process.env.REDIS_PORT);

/** Sends one inline command and resolves with the first line of the reply, without its type byte. */
function askRedis(command) {
  return new Promise((resolve, reject) => {
    const socket = connect(redisPort, "127.0.0.1", () => socket.write(`${command}\r\n`));
    let reply = "";
    socket.setTimeout(DEADLINE_MS, () => socket.destroy(new Error("redis did not answer in time")));
    socket.on("data", (chunk) => {
      reply += chunk;
      if (!reply.includes("\r\n")) return;
      socket.end();
      const line = reply.slice(0, reply.indexOf("\r\n"));
      if (line.startsWith("-")) reject(new Error(line.slice(1)));
      else resolve(line.slice(1));
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("redis closed the connection")));
  });
}

const server = createServer(async (request, response) => {
  try {
    if (request.url === "/healthz") await askRedis("PING");
    const body = request.url === "/healthz" ? "ok" : await askRedis("INCR visits");
    response.end(`${body}\n`);
  } catch (error) {
    response.statusCode = 503;
    response.end(`${error.message}\n`);
  }
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
