// Members of MLS groups that run on ts-mls, for the Go test of this folder. A
// command is one line of JSON on stdin, its answer one line on stdout; byte
// strings are base64. Commands run one after the other.

import { register } from "node:module";
import { createInterface } from "node:readline";

register("./corrections.mjs", import.meta.url);
const { commands } = await import("./member.mjs");

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...args } = JSON.parse(line);
  let answer;
  try {
    if (!Object.hasOwn(commands, op)) throw new Error(`no command ${op}`);
    answer = (await commands[op](args)) ?? {};
  } catch (e) {
    answer = { error: e?.stack ?? String(e) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
