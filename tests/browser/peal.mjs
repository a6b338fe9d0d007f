// tests/browser/peal.mjs: one `peal dev` on ports that the kernel chooses, with its own data.
//
// The program says on stdout where it listens; what it logs is kept and shown when it fails.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const BUILT = new URL("../../build/release/peal", import.meta.url).pathname;
const PROGRAM = process.env.PEAL_BIN ?? BUILT;
const READY_MS = 20_000;
const STOP_MS = 20_000;

// Rejects when work takes longer than ms.
async function within(ms, what, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

// Reads stdout up to the two addresses.
async function addresses(child) {
  const found = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const match = /^peal: (ready|api) (http:\/\/\S+)/.exec(line);
    if (match) found[match[1]] = match[2];
    if (found.ready && found.api) return found;
  }
  throw new Error("it ended before it was ready");
}

/** Starts a server: { url, apiUrl, pid, log(), stop(), kill() }. More settings as "key=value". */
export async function startPeal(...settings) {
  const data = await mkdtemp(join(tmpdir(), "peal-browser-"));
  const own = [
    "listen=127.0.0.1:0",
    "api.listen=127.0.0.1:0",
    `data=${data}`,
    "doors.pull=tcp://127.0.0.1:*",
    "doors.xpub=tcp://127.0.0.1:*",
    "doors.rpc=tcp://127.0.0.1:*",
  ];
  const args = ["dev", ...[...own, ...settings].flatMap((setting) => ["--set", setting])];
  const child = spawn(PROGRAM, args, { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  exited.catch(() => {}); // a program that cannot be started: told by addresses()
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill); // a test that is cut off leaves nothing behind
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (log += text));

  async function end(signal) {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    try {
      await within(STOP_MS, `end after ${signal}`, exited);
    } finally {
      kill();
      process.off("exit", kill);
      await rm(data, { recursive: true, force: true });
    }
  }

  let found;
  try {
    found = await within(READY_MS, "start", addresses(child));
  } catch (error) {
    await (child.pid === undefined ? rm(data, { recursive: true }) : end("SIGKILL"));
    throw new Error(`${PROGRAM}: ${error.message}\n${log}`);
  }
  child.stdout.resume();
  return {
    url: found.ready,
    apiUrl: found.api,
    pid: child.pid,
    log: () => log,
    /** SIGTERM; fails unless the server then ends by itself with code 0. */
    async stop() {
      await end("SIGTERM");
      if (child.exitCode !== 0) {
        throw new Error(`peal ended with ${child.exitCode ?? child.signalCode}\n${log}`);
      }
    },
    kill: () => end("SIGKILL"),
  };
}
