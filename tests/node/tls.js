// Dials a server trusting one CA alone: tls.js HOST PORT CA [NAME]
const fs = require("node:fs");
const tls = require("node:tls");

const [host, port, ca, servername] = process.argv.slice(2);
const socket = tls.connect({
  host,
  port: Number(port),
  ca: fs.readFileSync(ca),
  // Without a name the address itself is verified, and no SNI is sent.
  ...(servername && { servername }),
  ALPNProtocols: ["h2", "http/1.1"],
  timeout: 10_000,
});
let answer = "";
socket.on("data", (chunk) => (answer += chunk));
socket.on("end", () => console.log(answer, socket.alpnProtocol));
socket.on("timeout", () => socket.destroy(new Error("no answer within 10 s")));
socket.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
